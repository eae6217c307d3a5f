#!/bin/sh
# Runs a recipe on the cluster and ends with its verdict: 0 PASS, 1 BLOCK, 2 INCONCLUSIVE, 3 error.
# usage: verdict.sh RECIPE.yaml [NAMESPACE]
set -eu
recipe=$1
k="kubectl -n ${2:-lrm}"
name=lrm-recipe-$(sha256sum < "$recipe" | cut -c1-12)
$k create configmap "$name" --from-file=recipe.yaml="$recipe" --dry-run=client -o yaml | $k apply -f - >&2
job=$(sed "s/name: lrm-recipe}/name: $name}/" "$(dirname "$0")/verdict.yaml" | $k create -f - -o name)
code=
while [ -z "$code" ]; do
  $k logs -f "$job" >&2 2>/dev/null || sleep 5
  code=$($k get pods -l "job-name=${job#*/}" \
    -o 'jsonpath={.items[0].status.containerStatuses[0].state.terminated.exitCode}' 2>/dev/null || true)
  [ -n "$code" ] || [ -z "$($k get "$job" -o 'jsonpath={.status.conditions[?(@.type=="Failed")].type}')" ] || code=3
done
exit "$code"
