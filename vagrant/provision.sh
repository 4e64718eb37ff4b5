#!/usr/bin/env bash
# Sets up one of the three machines: provision.sh storage | monitoring | zone-admin.
# May run again at any time: containers are replaced, data stays in /srv/aion.
set -euo pipefail

role="$1"
storage=192.168.56.160
monitoring=192.168.56.161
zone_admin=192.168.56.162
image=localhost/aion:latest
data=/srv/aion
# The bucket's keys, as on every machine of this tutorial: nothing but these machines reaches it.
key=aion
secret=only-for-these-machines

hosts() {
  local line
  for line in "$storage srv-storage" "$monitoring srv-monitoring" "$zone_admin srv-zoneAdmin"; do
    grep -qxF "$line" /etc/hosts || echo "$line" >>/etc/hosts
  done
}

podman_present() {
  command -v podman >/dev/null && return
  if command -v apt-get >/dev/null; then
    apt-get update -q
    DEBIAN_FRONTEND=noninteractive apt-get install -q -y podman curl
  else
    dnf install -q -y podman curl
  fi
}

# Opens TCP ports where a firewall is running.
open_ports() {
  systemctl is-active --quiet firewalld || return 0
  local port
  for port in "$@"; do
    firewall-cmd --quiet --permanent --add-port="$port/tcp"
  done
  firewall-cmd --quiet --reload
}

aion_image() {
  if [[ -f /aion/vagrant/aion-image.tar ]]; then
    podman load -q -i /aion/vagrant/aion-image.tar
  else
    podman build -q -f /aion/docker/Dockerfile --build-arg BIN=aion -t "$image" /aion
  fi
}

# Runs a container under this name, in place of the one that has it, and has systemd keep it:
# container NAME [podman options] IMAGE [arguments]
container() {
  local name="$1"
  shift
  podman rm -f -i "$name" >/dev/null
  podman create --name "$name" --net=host "$@" >/dev/null
  podman generate systemd --name "$name" --restart-policy=on-failure \
    >"/etc/systemd/system/aion-$name.service"
  systemctl daemon-reload
  systemctl enable --quiet "aion-$name.service"
  systemctl restart "aion-$name.service"
}

# Waits until a URL answers, for two minutes: what follows needs it.
answers() {
  if ! curl -sf -o /dev/null --retry 120 --retry-delay 1 --retry-all-errors "$1"; then
    echo "$1 does not answer" >&2
    return 1
  fi
}

bucket_config() {
  cat >"$data/bucket.yaml" <<YAML
type: S3
config:
  bucket: thanos
  endpoint: $storage:9000
  region: us-east-1
  insecure: true
  signature_version2: true
  access_key: $key
  secret_key: $secret
YAML
}

storage_machine() {
  open_ports 9000 10907 10908 10909 19091 19095 19191
  mkdir -p "$data"/{s3,receive,store,compact}
  bucket_config
  container s3 -v "$data/s3:/data:z" \
    -e AWS_ACCESS_KEY_ID="$key" -e AWS_SECRET_ACCESS_KEY="$secret" \
    docker.io/chrislusf/seaweedfs:4.48 \
    mini -dir=/data -s3.port=9000 -bucket=thanos -master.telemetry=false
  answers "http://127.0.0.1:9000/healthz"
  local bucket=(-v "$data/bucket.yaml:/etc/aion/bucket.yaml:ro,z")
  container receive -u root "${bucket[@]}" -v "$data/receive:/receive-data:z" "$image" \
    receive --tsdb.path "/receive-data" --grpc-address "$storage:10907" \
    --http-address "$storage:10909" --objstore.config-file /etc/aion/bucket.yaml \
    --label "receive_replica=\"0\"" --label "receive_cluster=\"CL-A\"" --tsdb.retention=0d \
    --remote-write.address "$storage:10908"
  container store -u root "${bucket[@]}" -v "$data/store:/data:z" "$image" \
    store --objstore.config-file /etc/aion/bucket.yaml --http-address 0.0.0.0:19091 \
    --grpc-address 0.0.0.0:19191
  container compact -u root "${bucket[@]}" -v "$data/compact:/data:z" "$image" \
    compact --wait --wait-interval 30s --consistency-delay 0s \
    --objstore.config-file /etc/aion/bucket.yaml --http-address 0.0.0.0:19095
  answers "http://$storage:10909/-/ready"
  answers "http://$storage:19091/-/ready"
}

monitoring_machine() {
  open_ports 9090
  mkdir -p "$data"
  cat >"$data/prometheus.yml" <<YAML
global:
  scrape_interval: 15s
  external_labels:
    cluster: CL-A
    replica: "0"
scrape_configs:
  - job_name: prometheus
    static_configs:
      - targets: ["localhost:9090"]
  - job_name: thanos-receive
    static_configs:
      - targets: ["$storage:10909"]
  - job_name: thanos-store
    static_configs:
      - targets: ["$storage:19091"]
  - job_name: thanos-compact
    static_configs:
      - targets: ["$storage:19095"]
  - job_name: thanos-query
    static_configs:
      - targets: ["$zone_admin:9091"]
remote_write:
  - url: http://$storage:10908/api/v1/receive
YAML
  container prometheus -v "$data/prometheus.yml:/etc/prometheus/prometheus.yml:ro,z" \
    docker.io/prom/prometheus:v3.7.3
  answers "http://127.0.0.1:9090/-/ready"
}

zone_admin_machine() {
  open_ports 3000 9091
  mkdir -p "$data/grafana"
  container query "$image" \
    query --http-address 0.0.0.0:9091 --query.replica-label replica \
    --store "$storage:19191" --store "$storage:10907"
  answers "http://127.0.0.1:9091/-/ready"
  cp -r /aion/docker/grafana/. "$data/grafana/"
  sed -i "s|http://query:10902|http://$zone_admin:9091|" \
    "$data/grafana/provisioning/datasources/aion.yaml"
  container grafana -v "$data/grafana/provisioning:/etc/grafana/provisioning:ro,z" \
    -v "$data/grafana/dashboards:/var/lib/grafana/dashboards:ro,z" \
    -e GF_AUTH_ANONYMOUS_ENABLED=true -e GF_AUTH_ANONYMOUS_ORG_ROLE=Admin \
    -e GF_AUTH_DISABLE_LOGIN_FORM=true \
    docker.io/grafana/grafana-oss:12.2.1
  answers "http://127.0.0.1:3000/api/health"
}

hosts
podman_present
case "$role" in
  storage)
    aion_image
    storage_machine
    ;;
  monitoring) monitoring_machine ;;
  zone-admin)
    aion_image
    zone_admin_machine
    ;;
  *)
    echo "provision.sh: the role is storage, monitoring or zone-admin, not $role" >&2
    exit 2
    ;;
esac
