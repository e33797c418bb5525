#!/usr/bin/env bash
# Visionloop on a kind cluster of its own: kind.sh up, demo, down. On a cluster that is there already, with the images in it and
# Argo Workflows running: kind.sh apply, then demo.
#
#   kind.sh up       create the cluster, install Argo Workflows, build and load the images, apply
#   kind.sh apply    install Visionloop with S3 and MLflow, with keys made at random, and wait until both answer
#   kind.sh sample   write the sample dataset into the cluster's S3
#   kind.sh demo     sample, then train on it and print what was registered
#   kind.sh down     delete the cluster
#
# CLUSTER, NAMESPACE and OVERLAY name others than kind's own. KUBECONFIG is kubectl's; make gives a file of its own, so that
# nobody's current cluster is touched.
set -euo pipefail

ARGO_VERSION=4.0.7
CLUSTER=${CLUSTER:-visionloop}
NAMESPACE=${NAMESPACE:-visionloop}
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

up() {
  need docker kind kubectl make
  [[ -z ${KUBECONFIG:-} ]] || mkdir -p "$(dirname "$KUBECONFIG")"
  kind get clusters 2>/dev/null | grep -qx "$CLUSTER" || kind create cluster --name "$CLUSTER" --wait 120s
  kind export kubeconfig --name "$CLUSTER"
  kubectl create namespace argo --dry-run=client -o yaml | kubectl apply -f - >/dev/null
  # Server-side: the CRDs are larger than the annotation of a client-side apply may be.
  kubectl apply --server-side --namespace argo \
    -f "https://github.com/argoproj/argo-workflows/releases/download/v$ARGO_VERSION/install.yaml" >/dev/null
  kubectl --namespace argo rollout status deployment/workflow-controller --timeout 300s
  make -C "$ROOT" images BUILDER=docker
  local version
  version=$(sed -n 's/^version = "\(.*\)"/\1/p' "$ROOT/pyproject.toml")
  for image in stage trainer services; do
    kind load docker-image --name "$CLUSTER" "localhost/visionloop-$image:$version"
  done
  apply
}

apply() {
  need kubectl
  kubectl apply -k "$OVERLAY" >/dev/null
  if ! in_namespace get secret visionloop >/dev/null 2>&1; then
    local access secret
    access=$(random 10) secret=$(random 20)
    # From standard input: what stands in a command line is seen by every user of this machine.
    printf '%s\n' "INTERNAL_S3_ACCESS_KEY=$access" "INTERNAL_S3_SECRET_KEY=$secret" \
      "EXTERNAL_S3_ACCESS_KEY=$access" "EXTERNAL_S3_SECRET_KEY=$secret" |
      in_namespace create secret generic visionloop --from-env-file=/dev/stdin >/dev/null
  fi
  for service in store mlflow; do
    in_namespace rollout status "deployment/visionloop-$service" --timeout 600s >&2
  done
  say "Visionloop is installed in namespace $NAMESPACE. MLflow's page: kubectl -n $NAMESPACE port-forward service/visionloop-mlflow 5000"
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
  up | apply | sample | down) "$1" ;;
  demo) shift; demo "$@" ;;
  *) sed -n '2,12p' "${BASH_SOURCE[0]}" | cut -c3- >&2; exit 2 ;;
esac
