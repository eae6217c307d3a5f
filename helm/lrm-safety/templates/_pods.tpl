{{/* What all our pods have in common: Pod Security "restricted", the settings, and folders to write to. */}}

{{/* Of a pod: dict "root" $ "token" bool "serviceAccount" name. */}}
{{- define "lrm.pod" -}}
serviceAccountName: {{ .serviceAccount }}
automountServiceAccountToken: {{ .token }}
enableServiceLinks: false
{{- with .root.Values.images.pullSecrets }}
imagePullSecrets:
  {{- range . }}
  - name: {{ . }}
  {{- end }}
{{- end }}
securityContext:
  runAsNonRoot: true
  seccompProfile: {type: RuntimeDefault}
{{- end }}

{{/* Of a container of our own image: dict "root" $ "command" list "resources" map. Environment and mounts follow it. */}}
{{- define "lrm.container" -}}
image: {{ include "lrm.image" (dict "root" .root "role" "service") }}
imagePullPolicy: {{ .root.Values.images.pullPolicy }}
command: {{ toJson .command }}
resources: {{ toJson .resources }}
securityContext: {{ include "lrm.confined" . }}
envFrom:
  - configMapRef: {name: {{ include "lrm.fullname" .root }}-env}
  - secretRef: {name: {{ include "lrm.store.secret" .root }}}
{{- end }}

{{/* What bench needs to sign decisions, to believe announcements and to tell others: from the Secret gate.secret. */}}
{{- define "lrm.gate.env" -}}
{{- with .Values.gate.secret }}
{{- range $key := list "LRM_CALLBACK_SECRET" "LRM_GITHUB_TOKEN" }}
- {name: {{ $key }}, valueFrom: {secretKeyRef: {name: {{ $.Values.gate.secret }}, key: {{ $key }}, optional: true}}}
{{- end }}
{{- if $.Values.gate.webhook }}
- {name: LRM_WEBHOOK_SECRET, valueFrom: {secretKeyRef: {name: {{ . }}, key: LRM_WEBHOOK_SECRET}}}
{{- end }}
{{- if $.Values.gate.sign }}
- {name: LRM_SIGNING_KEY, value: /etc/lrm/gate/signing.key}
{{- end }}
{{- end }}
{{- end }}

{{/* What a short task of ours takes. */}}
{{- define "lrm.small" -}}
{"requests": {"cpu": "100m", "memory": "256Mi"}, "limits": {"cpu": "1", "memory": "1Gi"}}
{{- end }}

{{/* A task that runs while the release's own settings and Secrets are not there, yet or any more: dict "root" $ "command" list. */}}
{{- define "lrm.task" -}}
image: {{ include "lrm.image" (dict "root" .root "role" "service") }}
imagePullPolicy: {{ .root.Values.images.pullPolicy }}
command: {{ toJson .command }}
resources: {{ include "lrm.small" . }}
securityContext: {{ include "lrm.confined" . }}
volumeMounts: {{- include "lrm.mounts" (dict "root" .root "whose" "") | nindent 2 }}
{{- end }}

{{/* Annotations of a hook: dict "when" "post-delete" "weight" "-1". */}}
{{- define "lrm.hook" -}}
helm.sh/hook: {{ .when }}
helm.sh/hook-weight: {{ .weight | quote }}
helm.sh/hook-delete-policy: before-hook-creation,hook-succeeded
{{- end }}

{{- define "lrm.confined" -}}
{allowPrivilegeEscalation: false, readOnlyRootFilesystem: true, capabilities: {drop: [ALL]}}
{{- end }}

{{/* What every pod of ours may write to, and whose certificate it shows ("" = none): dict "root" $ "whose" "judge". */}}
{{- define "lrm.mounts" -}}
- {name: tmp, mountPath: /tmp}
- {name: home, mountPath: /home/lrm}
- {name: state, mountPath: /var/lib/lrm}
{{- if and .whose (ne .root.Values.tls.mode "none") }}
- {name: tls, mountPath: /etc/lrm/tls, readOnly: true}
{{- end }}
{{- end }}

{{/* The volumes of those mounts: dict "root" $ "whose" "judge" "size" "4Gi". */}}
{{- define "lrm.volumes" -}}
- {name: tmp, emptyDir: {sizeLimit: {{ .size }}}}
- {name: home, emptyDir: {sizeLimit: {{ .size }}}}
- {name: state, emptyDir: {sizeLimit: {{ .size }}}}
{{- if and .whose (ne .root.Values.tls.mode "none") }}
- {name: tls, secret: {secretName: {{ include "lrm.fullname" .root }}-tls-{{ .whose }}}}
{{- end }}
{{- end }}

{{/* The gRPC health service, asked by the kubelet itself where it can: it has no certificate to show. */}}
{{- define "lrm.probe" -}}
{{- if and (eq .root.Values.tls.mode "none") (semverCompare ">=1.24-0" .root.Capabilities.KubeVersion.Version) -}}
grpc: {port: {{ .port }}}
{{- else -}}
exec: {command: [python, -m, services.health, {{ .service }}]}
{{- end }}
{{- end }}
