dataplane "everything" {
  data_dir = "/var/lib/towpath"
}

listen "signaling" {
  address   = "10.0.0.1:443"
  base_path = "/api/v1"
}

listen "public" {
  address = ":8443"
  url     = "https://data.example.com/public/"
}

listen "admin" {
  address = "[::1]:0"
}

store "sqlite" {
  path = "db/../towpath.sqlite"
}

plugins {
  directory = "plugins"
  trust     = "pinned"
  watch     = false
  publisher "acme" {
    key = "RWQ5kkpFHbnjgrPnd/dYsZ+gRMpPOS0myd1FDw75+tZr/0WjnRtnPiRc"
  }
}

plugin "file" {
  binary           = "file-1.2.3"
  sha256           = file("../digest.txt")
  environment      = { TZ = "UTC", EMPTY = "", NUMBER = 1 }
  pass_environment = ["PATH", "HOME"]
  start_timeout    = "1s"
  drain_timeout    = "2m"
  stop_timeout     = "300ms"
  handover_timeout = "1m"
  lane             = "grpc"
  lane_buffer      = "2MiB"
  server_side_copy = false
  start            = "always"
  isolation        = "participant"
  max_processes    = 4
  quarantine_after = 0
  mtls             = "on"
  publisher        = "acme"
  limits {
    memory     = "512MiB"
    cpu        = 1.5
    open_files = 256
    processes  = 64
  }
  permissions {
    environment = ["AWS_REGION"]
    read        = ["/srv/data", "files"]
    write       = []
    connect     = ["10.0.0.0/8:443", "s3.example.com:443", "*:5432", "[::1]:*"]
  }
  config {
    root = path("files")
  }
}

plugin "kinds" {
  sha256 = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"
  config {
    text     = env("TOWPATH_TEST_SET")
    flag     = false
    number   = -9223372036854775808
    span     = "1h30m"
    bytes    = 1024 * 1024
    server   = "https://example.com"
    names    = ["one", 2, true]
    by_name  = { "header:X" = "y", n = 1 }
    colour   = "green"
    password = "x${secret("../the.secret")}"
    pin      = env("TOWPATH_TEST_EMPTY", "1234")
  }
}

plugin "open" {
  sha256 = "0123456789ABCDEF0123456789abcdef0123456789abcdef0123456789abcdef"
  config {
    anything = 1.5
  }
}

plugin "http" {
  sha256 = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"
}

plugin "elsewhere" {
  address          = "unix:///run/towpath/elsewhere.sock"
  start_timeout    = "3s"
  drain_timeout    = "4s"
  server_side_copy = false
  config {
    depth = 3
  }
}

profile "https://w3id.org/dspace-sig/profile/http-push" {
  types = {
    "https://w3id.org/dspace-sig/profile/http-push" = "HttpData"
    "http"                                          = "HttpData"
  }
}

profile "HttpData-PULL" {
  type          = "HttpData"
  endpoint_type = "https://w3id.org/idsa/v4.1/HTTP"
  allow_http         = true
  dataset_in_message = true
}

profile "HttpData-PUSH-HttpData" {}

profile "HttpData-PULL-Kafka" {}

profile "HttpData-PUSH-HttpProxy" {
  response {
    endpoint_type = "Answers"
    linger        = "1m"
  }
}

profile "answered-push" {
  response {
    type = "Kafka"
  }
}

profile "carried-pull" {
  response {
    provision     = "Kafka"
    endpoint_type = "Queue"
  }
}

profile "plain-pull" {
  response {}
}

# Not of EDC's form.
profile "http-pull-v2" {}

dataset "answered" {
  source "HttpData" {
    endpoint = "https://source.example.com/answered"
  }
  response "HttpData" {
    endpoint = "https://answers.example.com/"
  }
}

profile "tape" {
  direction = "pull"
  weight    = 5
}

dataset "urn:uuid:1" {
  source "HttpData" {
    endpoint  = "https://example.com/x"
    path      = env("TOWPATH_TEST_UNSET", "a/b")
    number    = 12.5
    authCode  = secret("../the.secret")
    properties = {
      "header:Accept" = "text/csv"
      "header:Cookie" = "session=${secret("../the.secret")}"
      endpoint        = "a property of that name"
      note            = "not a secret beside one"
    }
  }
  sink "File" {
    path = "in"
  }
  limits {
    bytes     = "1MiB"
    records   = 100
    transfers = 2
    weight    = 3
  }
}

control_plane "cp" {
  endpoint      = "http://localhost:19193/base"
  protocol      = "dps"
  give_up_after = "36h"
}

token {
  lifetime       = "5m"
  max_bytes      = "20GiB"
  max_concurrent = 1
  max_duration   = "6h"
}

transfer {
  digests             = ["sha256", "crc32c", "sha256"]
  checkpoint_interval = "250ms"
  upload_lifetime     = "48h"
  retry {
    first         = "1s"
    max           = "1s"
    give_up_after = "1h"
  }
  watchdog {
    stalled_after = "30s"
    restart_after = "never"
    trust_health  = false
  }
}

limits {
  host {
    bytes     = "100MiB"
    records   = 50000
    transfers = 64
  }
  counterparty {
    bytes     = 1000000
    transfers = 8
    weight    = 1000
  }
  dataset {
    transfers = 4
  }
  flow {
    bytes   = "10MiB"
    records = 1
  }
}

telemetry {
  log_level  = "debug"
  log_format = "json"
}
