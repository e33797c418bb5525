#!/usr/bin/env bash
# Visionloop on a kind cluster of its own: kind.sh up, demo, down. On a cluster that is there already, with the images in it and
# Argo Workflows running: kind.sh apply, then demo.
#
#   kind.sh up       create the cluster, install the ENGINES, build and load the images, apply
#   kind.sh apply    install Visionloop with S3 and MLflow, with keys made at random, and wait until both answer
#   kind.sh sample   write the sample dataset into the cluster's S3
#   kind.sh demo     sample, then train on it and print what was registered
#   kind.sh share    let the pods of Kubeflow Pipelines reach that S3 and MLflow; up does it
#   kind.sh down     delete the cluster
#
# ENGINES is "argo kfp" (Argo Workflows and Kubeflow Pipelines), argo or kfp. CLUSTER, NAMESPACE, OVERLAY and KUBEFLOW (the
# namespace of Kubeflow Pipelines' pods) name others than kind's own. KUBECONFIG is kubectl's; make gives a file of its own, so that
# nobody's current cluster is touched.
set -euo pipefail

ARGO_VERSION=4.0.7
KFP_VERSION=2.17.0
ENGINES=${ENGINES:-argo kfp}
CLUSTER=${CLUSTER:-visionloop}
NAMESPACE=${NAMESPACE:-visionloop}
KUBEFLOW=${KUBEFLOW:-kubeflow}
HERE=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
ROOT=$(cd "$HERE/../.." && pwd)
OVERLAY=${OVERLAY:-$ROOT/manifests/overlays/kind}
VISIONLOOP=${VISIONLOOP:-$ROOT/.venv/bin/visionloop}

say() { printf '%s\n' "$*" >&2; }

need() { # PROGRAM...
  for program; do
    command -v "$program" >/dev/null || { say "$program: not installed; install it, or use kind.sh apply on a cluster that is there already"; exit 78; }
  done
}

in_namespace() { kubectl --namespace "$NAMESPACE" "$@"; }

random() { od -An -N"$1" -tx1 /dev/urandom | tr -d ' \n'; } # BYTES

wanted() { [[ " $ENGINES " == *" $1 "* ]]; } # ENGINE

up() {
  for engine in $ENGINES; do
    [[ $engine == argo || $engine == kfp ]] || { say "ENGINES: '$engine' is no engine; give argo, kfp or both"; exit 78; }
  done
  need docker kind kubectl make
  ! wanted kfp || need git
  [[ -z ${KUBECONFIG:-} ]] || mkdir -p "$(dirname "$KUBECONFIG")"
  kind get clusters 2>/dev/null | grep -qx "$CLUSTER" || kind create cluster --name "$CLUSTER" --wait 120s
  kind export kubeconfig --name "$CLUSTER"
  # Argo last, so that its CRDs stay: Kubeflow Pipelines brings older ones.
  ! wanted kfp || install_kfp
  ! wanted argo || install_argo
  make -C "$ROOT" images BUILDER=docker
  make --silent -C "$ROOT" image-names | while read -r image; do
    kind load docker-image --name "$CLUSTER" "$image"
  done
  apply
  ! wanted kfp || share
}

install_argo() {
  kubectl create namespace argo --dry-run=client -o yaml | kubectl apply -f - >/dev/null
  # Server-side: the CRDs are larger than the annotation of a client-side apply may be.
  kubectl apply --server-side --force-conflicts --namespace argo \
    -f "https://github.com/argoproj/argo-workflows/releases/download/v$ARGO_VERSION/install.yaml" >/dev/null
  # Two controllers must not take the same workflow: that of Kubeflow Pipelines keeps to its namespace, this one to ours.
  ! wanted kfp || kubectl --namespace argo patch deployment workflow-controller --type json --patch \
    "[{op: add, path: /spec/template/spec/containers/0/args, value: [--namespaced, --managed-namespace=$NAMESPACE]}]" >/dev/null
  kubectl --namespace argo rollout status deployment/workflow-controller --timeout 300s
}

install_kfp() {
  local source=github.com/kubeflow/pipelines/manifests/kustomize
  kubectl apply --server-side --force-conflicts -k "$source/cluster-scoped-resources?ref=$KFP_VERSION" >/dev/null
  kubectl wait --for condition=established --timeout 60s crd/applications.app.k8s.io >/dev/null
  kubectl apply -k "$source/env/platform-agnostic?ref=$KFP_VERSION" >/dev/null
  # Its release brings an Argo older than the floor of docs/engines.md.
  kubectl --namespace kubeflow patch deployment workflow-controller --type json --patch "
    - {op: replace, path: /spec/template/spec/containers/0/image, value: 'quay.io/argoproj/workflow-controller:v$ARGO_VERSION'}
    - {op: test, path: /spec/template/spec/containers/0/args/2, value: --executor-image}
    - {op: replace, path: /spec/template/spec/containers/0/args/3, value: 'quay.io/argoproj/argoexec:v$ARGO_VERSION'}" >/dev/null
  for deployment in workflow-controller ml-pipeline; do
    kubectl --namespace kubeflow rollout status "deployment/$deployment" --timeout 900s
  done
}

apply() {
  need kubectl
  kubectl apply -k "$OVERLAY" >/dev/null
  if ! in_namespace get secret visionloop-results >/dev/null 2>&1; then
    local access secret
    access=$(random 10) secret=$(random 20)
    # From standard input: what stands in a command line is seen by every user of this machine.
    keys INTERNAL "$access" "$secret" | in_namespace create secret generic visionloop-results --from-env-file=/dev/stdin >/dev/null
    keys EXTERNAL "$access" "$secret" | handed "$NAMESPACE" visionloop-dataset secret generic
  fi
  for service in store mlflow; do
    in_namespace rollout status "deployment/visionloop-$service" --timeout 600s >&2
  done
  say "Visionloop is installed in namespace $NAMESPACE. MLflow's page: kubectl -n $NAMESPACE port-forward service/visionloop-mlflow 5000"
}

keys() { # BEGINNING ACCESS SECRET: the lines of a Secret
  printf '%s\n' "$1_S3_ACCESS_KEY=$2" "$1_S3_SECRET_KEY=$3"
}

share() {
  need kubectl
  kubectl apply -f - >/dev/null <<END
apiVersion: v1
kind: Service
metadata: {name: visionloop-store, namespace: $KUBEFLOW}
spec: {type: ExternalName, externalName: visionloop-store.$NAMESPACE.svc.cluster.local}
---
apiVersion: v1
kind: Service
metadata: {name: visionloop-mlflow, namespace: $KUBEFLOW}
spec: {type: ExternalName, externalName: visionloop-mlflow.$NAMESPACE.svc.cluster.local}
---
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: visionloop-services-kubeflow, namespace: $NAMESPACE}
spec:
  podSelector: {matchLabels: {app.kubernetes.io/name: visionloop-services}}
  policyTypes: [Ingress]
  ingress:
    - from: [{namespaceSelector: {matchLabels: {kubernetes.io/metadata.name: $KUBEFLOW}}}]
      ports: [{port: 8333, protocol: TCP}, {port: 5000, protocol: TCP}]
END
  in_namespace get configmap visionloop \
    -o go-template='{{range $name, $value := .data}}{{$name}}={{$value}}{{"\n"}}{{end}}' | handed "$KUBEFLOW" visionloop configmap
  for role in dataset results; do
    in_namespace get secret "visionloop-$role" \
      -o go-template='{{range $name, $value := .data}}{{$name}}={{base64decode $value}}{{"\n"}}{{end}}' |
      handed "$KUBEFLOW" "visionloop-$role" secret generic
  done
}

handed() { # NAMESPACE NAME KIND...: what standard input holds, as an object of that kind and name
  local namespace=$1 name=$2
  kubectl --namespace "$namespace" create "${@:3}" "$name" --from-env-file=/dev/stdin --dry-run=client -o yaml |
    kubectl apply --server-side --force-conflicts -f - >/dev/null
}

sample() {
  need kubectl
  in_namespace delete job visionloop-sample --ignore-not-found >/dev/null
  in_namespace create -f "$HERE/sample.yaml" >/dev/null
  in_namespace wait --for condition=complete --timeout 600s job/visionloop-sample >&2
}

demo() { # SETTING...: in place of the demo's own
  sample
  local settings=("$@")
  # From scratch on a few cores: as visionloop demo trains.
  ((${#settings[@]})) || settings=(model=yolo11n.yaml imgsz=160 epochs=16 batch=16 optimizer=AdamW lr0=0.002 mosaic=0 fliplr=0 workers=2)
  "$VISIONLOOP" run train --engine argo --namespace "$NAMESPACE" --dataset s3://datasets/sample-digits \
    --workspace s3://visionloop/demo --model-name sample-digits "${settings[@]/#/--set=}"
}

down() {
  need kind
  kind delete cluster --name "$CLUSTER"
}

case ${1:-} in
  up | apply | sample | share | down) "$1" ;;
  demo) shift; demo "$@" ;;
  *) sed -n '2,14p' "${BASH_SOURCE[0]}" | cut -c3- >&2; exit 2 ;;
esac; exit # On this line, so that bash reads nothing behind it: the file may change while this runs for minutes.
