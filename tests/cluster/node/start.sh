#!/usr/bin/env bash
# Starts a cluster of one real node on this machine: control plane, containerd, kubelet, names; all in a network namespace
# of its own (`in_node.sh COMMAND…` runs a command there). Root only.
# usage: start.sh TOOLS BIN STATE
#   TOOLS  folder with start.sh of a control plane (etcd, API server, controllers, scheduler)
#   BIN    its programs and `kubelet`
#   STATE  everything made at run time; stop.sh STATE ends it
set -euo pipefail
HERE=$(dirname "$(realpath "$0")") TOOLS=$(realpath "$1") BIN=$(realpath "$2")
mkdir -p "$3/cni" "$3/containerd"
STATE=$(realpath "$3")
SOCKET=$STATE/containerd.sock
API=10.96.0.1 DNS=10.96.0.10 NODE=10.89.0.1 PODS=10.88.0.0/16

# Both addresses of the cluster that pods use are addresses of the node: no rules for packets are needed.
ip netns add lrm-node
ip -n lrm-node link set lo up
for address in $API $DNS; do ip -n lrm-node address add "$address/32" dev lo; done
# and the node's own, which may not be on lo
ip -n lrm-node link add node type veth peer name wire
ip -n lrm-node address add "$NODE/32" dev node
for link in node wire; do ip -n lrm-node link set "$link" up; done
in_node() { nsenter --net=/run/netns/lrm-node "$@"; }
in_node sysctl -qw net.ipv4.ip_forward=1
run() {
  local name=$1; shift
  setsid nsenter --net=/run/netns/lrm-node "$@" > "$STATE/$name.log" 2>&1 &
  echo $! > "$STATE/$name.pid"
}
until_true() { for _ in $(seq 240); do "$@" >/dev/null 2>&1 && return; sleep 0.5; done; echo "gave up: $*" >&2; return 1; }

PORT=443 API_ARGS=--bind-address=0.0.0.0 in_node bash "$TOOLS/start.sh" "$BIN" "$STATE"

cat > "$STATE/cni/pods.conflist" <<EOF
{"cniVersion": "0.4.0", "name": "pods", "plugins": [{"type": "ptp", "ipam": {"type": "host-local", "subnet": "$PODS",
 "dataDir": "$STATE/addresses", "routes": [{"dst": "0.0.0.0/0"}]}}]}
EOF
cat > "$STATE/containerd.toml" <<EOF
version = 2
root = "$STATE/containerd/root"
state = "$STATE/containerd/state"
oom_score = 0
[grpc]
  address = "$SOCKET"
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "localhost/pause:1"
  restrict_oom_score_adj = true
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "/usr/lib/cni"
    conf_dir = "$STATE/cni"
EOF
cat > "$STATE/kubelet.yaml" <<EOF
apiVersion: kubelet.config.k8s.io/v1beta1
kind: KubeletConfiguration
authentication: {anonymous: {enabled: false}, webhook: {enabled: false}, x509: {clientCAFile: $STATE/pki/ca.crt}}
authorization: {mode: AlwaysAllow}
cgroupDriver: cgroupfs
cgroupsPerQOS: false
enforceNodeAllocatable: []
oomScoreAdj: 0
maxOpenFiles: 20000
evictionHard: {}
imageGCHighThresholdPercent: 100
failSwapOn: false
clusterDNS: [$DNS]
clusterDomain: cluster.local
resolvConf: $STATE/resolv.conf
EOF
: > "$STATE/resolv.conf" # the cluster's names and no others

run containerd containerd --config "$STATE/containerd.toml"
until_true ctr --address "$SOCKET" version
run names python3 "$HERE/names.py" $DNS https://127.0.0.1 "$STATE/pki"
run kubelet "$BIN/kubelet" --config "$STATE/kubelet.yaml" --kubeconfig "$STATE/kubelet.kubeconfig" \
  --hostname-override localhost --node-ip $NODE --root-dir "$STATE/kubelet" --cert-dir "$STATE/kubelet/pki" \
  --container-runtime remote --container-runtime-endpoint "unix://$SOCKET"
is_ready() {
  in_node curl -sf --cacert "$STATE/pki/ca.crt" --cert "$STATE/pki/admin.crt" --key "$STATE/pki/admin.key" \
    "https://127.0.0.1/api/v1/nodes/localhost?pretty=false" | grep '"type":"Ready","status":"True"'
}
until_true is_ready
