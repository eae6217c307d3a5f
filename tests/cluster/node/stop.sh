#!/usr/bin/env bash
# Ends a cluster of one node with everything it ran. usage: stop.sh STATE
set -uo pipefail
STATE=$(realpath "$1")
end() { [ -f "$STATE/$1.pid" ] && kill "$(cat "$STATE/$1.pid")" 2>/dev/null && rm -f "$STATE/$1.pid"; }
end kubelet
for task in $(ctr --address "$STATE/containerd.sock" -n k8s.io tasks list -q 2>/dev/null); do
  ctr --address "$STATE/containerd.sock" -n k8s.io tasks kill --signal SIGKILL "$task" 2>/dev/null
done
sleep 2
for name in names sched cm apiserver etcd containerd; do end $name; done
for pid in $(ps -eo pid,args | awk -v at="$STATE/" '/containerd-shim/ && index($0, at) {print $1}'); do kill "$pid" 2>/dev/null; done
sleep 1
awk -v at="$STATE/" 'index($2, at) == 1 {print $2}' /proc/mounts | sort -r | xargs -r umount -l
for pod in $(ip -n lrm-node -o link 2>/dev/null | grep -o 'link-netns cni-[^ ]*' | cut -d' ' -f2); do ip netns del "$pod"; done
ip netns del lrm-node 2>/dev/null # with every interface in it
exit 0
