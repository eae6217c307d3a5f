{{/* What everything is called, and the labels it carries. */}}

{{/* A name that leaves room for our suffixes: at most 40 characters; a longer one is cut and keeps apart by a digest. */}}
{{- define "lrm.short" -}}
{{- if le (len .) 40 }}{{ . | trimSuffix "-" }}{{ else }}{{ printf "%s-%s" (trunc 33 . | trimSuffix "-") (sha256sum . | trunc 6) }}{{ end }}
{{- end }}

{{- define "lrm.name" -}}
{{ default .Chart.Name .Values.nameOverride }}
{{- end }}

{{- define "lrm.fullname" -}}
{{- $name := include "lrm.name" . }}
{{- $long := ternary .Release.Name (printf "%s-%s" .Release.Name $name) (contains $name .Release.Name) }}
{{- include "lrm.short" (default $long .Values.fullnameOverride) }}
{{- end }}

{{/* Of one component: dict "root" $ "component" "judge". */}}
{{- define "lrm.selector" -}}
app.kubernetes.io/name: {{ include "lrm.name" .root }}
app.kubernetes.io/instance: {{ .root.Release.Name }}
app.kubernetes.io/component: {{ .component }}
{{- end }}

{{- define "lrm.labels" -}}
{{ include "lrm.selector" . }}
app.kubernetes.io/version: {{ .root.Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .root.Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .root.Chart.Name .root.Chart.Version | replace "+" "_" }}
{{- end }}

{{/* An image by role; one that says no tag or digest gets the chart's appVersion. */}}
{{- define "lrm.image" -}}
{{- $image := index .root.Values.images .role }}
{{- if regexMatch "(:[^/]+|@sha256:.+)$" $image }}{{ $image }}{{ else }}{{ printf "%s:%s" $image .root.Chart.AppVersion }}{{ end }}
{{- end }}

{{- define "lrm.services" -}}
data trainer inference judge bench
{{- end }}

{{- define "lrm.store.bundled" -}}
{{ empty .Values.store.endpoint | ternary "true" "" }}
{{- end }}

{{- define "lrm.store.secret" -}}
{{ default (printf "%s-store" (include "lrm.fullname" .)) .Values.store.secret }}
{{- end }}

{{- define "lrm.store.endpoint" -}}
{{ default (printf "%s-store:%v" (include "lrm.fullname" .) .Values.store.bundled.port) .Values.store.endpoint }}
{{- end }}

{{/* The PriorityClass of a priority: ours, the user's, or none. They belong to the whole cluster, so ours say whose they are. */}}
{{- define "lrm.priority" -}}
{{- if .root.Values.priorities.create }}
{{- printf "%s-%s" (include "lrm.short" (printf "%s-%s" .root.Release.Namespace (include "lrm.fullname" .root))) .priority }}
{{- else }}{{ index .root.Values.priorities.classes .priority }}{{ end }}
{{- end }}

{{- define "lrm.monitored" -}}
{{- $there := .Capabilities.APIVersions.Has "monitoring.coreos.com/v1" }}
{{- or (eq .Values.monitoring.enabled "always") (and (eq .Values.monitoring.enabled "auto") $there) | ternary "true" "" }}
{{- end }}

{{/* Label selectors, on one line: all pods of the release, or those of some components. */}}
{{- define "lrm.ours" -}}
{matchLabels: {app.kubernetes.io/instance: {{ .Release.Name }}}}
{{- end }}

{{- define "lrm.these" -}}
{{- $labels := dict "app.kubernetes.io/instance" .root.Release.Name }}
{{- if eq (len .components) 1 }}
{{- dict "matchLabels" (set $labels "app.kubernetes.io/component" (first .components)) | toJson }}
{{- else }}
{{- $in := dict "key" "app.kubernetes.io/component" "operator" "In" "values" .components }}
{{- dict "matchLabels" $labels "matchExpressions" (list $in) | toJson }}
{{- end }}
{{- end }}
