#!/usr/bin/env bash
# A one-node Kubernetes (etcd, API server, controller manager, scheduler, kubelet, containerd) on loopback.
# Its servers are built once from Debian's source package, about 8 minutes on 2 cores, and kept.
# `up`, `down`, or `load IMAGE`: an image from Docker into the node; `second up`, `second down`: another API server, at
# port 6444, that may be restarted while whoever uses the first is not disturbed. KUBECONFIG=$STATE/kubernetes/kubeconfig
source "$(dirname "$0")/lib.sh"
D="$STATE/kubernetes" SOCKET=/run/mlcube-kubernetes/containerd.sock
SERVERS="kube-apiserver kube-controller-manager kube-scheduler kubelet"
NODE=engine-node
export KUBECONFIG="$D/kubeconfig"

build() {
  local server missing=
  for server in $SERVERS; do [ -x "$D/bin/$server" ] || missing=yes; done
  [ -n "$missing" ] || return 0
  need golang-go make gcc rsync dpkg-dev file
  rm -rf "$D/source"; mkdir -p "$D/source/home" "$D/bin"
  (
    cd "$D/source"
    apt_from bookworm -- source --download-only kubernetes
    tar xzf kubernetes_*.orig.tar.gz
    mkdir -p go/src/k8s.io
    mv kubernetes-1.*/ go/src/k8s.io/kubernetes
    cd go/src/k8s.io/kubernetes
    env HOME="$D/source/home" GOPATH="$D/source/go" CGO_ENABLED=0 GO111MODULE=off GOFLAGS= \
      KUBE_GIT_COMMIT=debian KUBE_GIT_TREE_STATE=clean KUBE_GIT_VERSION=v1.20.2 KUBE_GIT_MAJOR=1 KUBE_GIT_MINOR=20 \
      nice -n 19 make WHAT="$(printf 'cmd/%s ' $SERVERS)" >"$STATE/log/kubernetes-build.log" 2>&1 \
      || { tail -5 "$STATE/log/kubernetes-build.log" >&2; exit 1; }
    for server in $SERVERS; do cp "_output/bin/$server" "$D/bin/$server.new" && mv "$D/bin/$server.new" "$D/bin/$server"; done
  )
  rm -rf "$D/source"
}

configure() {
  mkdir -p "$D"/{etc/cni,keys,etcd,kubelet}
  chmod 700 "$D/keys"
  if [ ! -f "$D/keys/accounts.pub" ]; then
    openssl genrsa -out "$D/keys/accounts.key" 2048 2>/dev/null
    openssl rsa -in "$D/keys/accounts.key" -pubout -out "$D/keys/accounts.pub" 2>/dev/null
  fi
  [ -f "$D/keys/token" ] || openssl rand -hex 16 >"$D/keys/token"
  echo "$(cat "$D/keys/token"),admin,admin,system:masters" >"$D/keys/tokens.csv"
  (umask 077 && cat >"$KUBECONFIG") <<K
apiVersion: v1
kind: Config
clusters: [{name: engines, cluster: {server: "https://127.0.0.1:6443", insecure-skip-tls-verify: true}}]
users: [{name: admin, user: {token: $(cat "$D/keys/token")}}]
contexts: [{name: engines, context: {cluster: engines, user: admin}}]
current-context: engines
K
  # A containerd of its own. Pods ask for oom scores that a host without CAP_SYS_RESOURCE refuses.
  cat >"$D/etc/containerd.toml" <<K
version = 2
root = "$D/containerd"
state = "$(dirname $SOCKET)"
oom_score = 0
[grpc]
  address = "$SOCKET"
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "localhost/pause:1"
  restrict_oom_score_adj = true
  disable_apparmor = true
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "/usr/lib/cni"
    conf_dir = "$D/etc/cni"
  [plugins."io.containerd.grpc.v1.cri".registry.mirrors."127.0.0.1:5000"]
    endpoint = ["http://127.0.0.1:5000"]
K
  cat >"$D/etc/cni/10-bridge.conflist" <<'K'
{"cniVersion": "0.4.0", "name": "engines", "plugins": [
  {"type": "bridge", "bridge": "cni0", "isGateway": true, "ipMasq": true,
   "ipam": {"type": "host-local", "ranges": [[{"subnet": "10.89.0.0/16"}]], "routes": [{"dst": "0.0.0.0/0"}]}},
  {"type": "portmap", "capabilities": {"portMappings": true}}]}
K
  cat >"$D/etc/kubelet.yaml" <<'K'
apiVersion: kubelet.config.k8s.io/v1beta1
kind: KubeletConfiguration
address: 127.0.0.1
authentication: {anonymous: {enabled: true}, webhook: {enabled: false}}
authorization: {mode: AlwaysAllow}
cgroupDriver: cgroupfs
failSwapOn: false
cgroupsPerQOS: false
enforceNodeAllocatable: []
oomScoreAdj: 0
evictionHard: {nodefs.available: "1%", imagefs.available: "1%", memory.available: "50Mi"}
imageGCHighThresholdPercent: 100
K
}

apiserver() { # apiserver NAME PORT
  start "$1" "$D/bin/kube-apiserver" --etcd-servers=http://127.0.0.1:23790 \
    --bind-address=127.0.0.1 --secure-port="$2" --advertise-address=127.0.0.1 --cert-dir="$D/keys/$1" \
    --token-auth-file="$D/keys/tokens.csv" --authorization-mode=RBAC \
    --service-account-issuer=https://kubernetes.default.svc --service-account-key-file="$D/keys/accounts.pub" \
    --service-account-signing-key-file="$D/keys/accounts.key" --service-cluster-ip-range=10.96.0.0/16 \
    --feature-gates=TTLAfterFinished=true --kubelet-preferred-address-types=Hostname
}

load() { # load IMAGE
  docker save "$1" | ctr -a $SOCKET -n k8s.io images import - >/dev/null
}

pause_image() {
  docker image inspect localhost/pause:1 >/dev/null 2>&1 && return 0
  local root; root=$(mktemp -d); mkdir "$root/bin"; cp /bin/busybox "$root/bin/"
  tar -C "$root" -c . |
    docker import -c 'ENTRYPOINT ["/bin/busybox","sleep","2147483647"]' - localhost/pause:1 >/dev/null
  rm -rf "$root"
}

ready() { kubectl get node $NODE 2>/dev/null | grep -q ' Ready'; }

case ${1:-up} in
  build) build ;;
  up)
    [ -f "$KUBECONFIG" ] && ready && exit 0
    "$(dirname "$0")/docker.sh" up; "$(dirname "$0")/base-image.sh" up
    need etcd-server containerd containernetworking-plugins busybox-static conntrack iptables openssl
    command -v kubectl >/dev/null || need kubernetes-client
    build; configure
    grep -q "$NODE" /etc/hosts || echo "127.0.0.1 $NODE" >>/etc/hosts
    start etcd etcd --data-dir "$D/etcd" --unsafe-no-fsync \
      --listen-client-urls http://127.0.0.1:23790 --advertise-client-urls http://127.0.0.1:23790 \
      --listen-peer-urls http://127.0.0.1:23800
    start kubernetes-containerd containerd -c "$D/etc/containerd.toml"
    apiserver kube-apiserver 6443
    until_ok 60 kubectl get --raw /readyz
    start kube-controller-manager "$D/bin/kube-controller-manager" --kubeconfig="$KUBECONFIG" \
      --service-account-private-key-file="$D/keys/accounts.key" --use-service-account-credentials=true \
      --leader-elect=false --feature-gates=TTLAfterFinished=true --cert-dir="$D/keys/manager" --bind-address=127.0.0.1
    start kube-scheduler "$D/bin/kube-scheduler" --kubeconfig="$KUBECONFIG" --leader-elect=false \
      --bind-address=127.0.0.1 --cert-dir="$D/keys/scheduler"
    start kubelet "$D/bin/kubelet" --config="$D/etc/kubelet.yaml" --kubeconfig="$KUBECONFIG" \
      --container-runtime=remote --container-runtime-endpoint="unix://$SOCKET" --root-dir="$D/kubelet" \
      --cert-dir="$D/keys/kubelet" --hostname-override=$NODE
    pause_image
    until_ok 20 ctr -a $SOCKET version
    load localhost/pause:1; load "${BASE_IMAGE:-cube-test/python:3.11}"
    until_ok 60 ready
    ;;
  load) load "$2" ;;
  second)
    export KUBECONFIG="$D/kubeconfig-second"
    if [ "$2" = up ]; then
      (umask 077 && sed 's/:6443/:6444/' "$D/kubeconfig" >"$KUBECONFIG")
      apiserver kube-apiserver-second 6444
      until_ok 60 kubectl get --raw /readyz
    else
      read -r pid _ <"$STATE/run/kube-apiserver-second.pid"
      stop kube-apiserver-second
      until_ok 60 eval '[ -z "$(began "$pid")" ]'
    fi
    ;;
  down)
    # What the node's containers run would outlive it.
    ready && kubectl delete jobs,pods --all --all-namespaces --grace-period=1 --timeout=30s >/dev/null 2>&1 || true
    stop kubelet kube-scheduler kube-controller-manager kube-apiserver-second kube-apiserver kubernetes-containerd etcd
    ;;
esac
