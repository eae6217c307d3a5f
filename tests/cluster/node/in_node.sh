#!/usr/bin/env bash
# Runs a command where the node is: its network, its administrator. usage: in_node.sh STATE COMMAND…
set -euo pipefail
KUBECONFIG=$(realpath "$1")/admin.kubeconfig
export KUBECONFIG
shift
exec nsenter --net=/run/netns/lrm-node "$@"
