dataplane "d" {}
control_plane "cp" {
  endpoint = "https://cp.example.com"
}
plugins {
  directory = "plugins"
  trust     = "off"
}
profile "http-pull" {}
listen "signaling" {
  address   = "18080"
  base_path = "api"
}
listen "public" {
  address = "127.0.0.1:http"
  url     = "example.com"
}
listen "admin" {
  address = "a b:1"
}
plugin "a" {
  binary           = "../../bin/sh"
  sha256           = "abc"
  environment      = { "A=B" = "x" }
  pass_environment = "PATH"
  start_timeout    = 10
  drain_timeout    = "ten seconds"
  lane             = "fast"
  lane_buffer      = "1GiB"
  mtls             = true
  start            = "later"
  isolation        = "tenant"
  max_processes    = 0
  quarantine_after = -1
  stop_timeout     = "-1s"
}
plugin "b" {
  binary           = ""
  sha256           = "g123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"
  environment      = { A = "x", B = null }
  pass_environment = ["A", ["B"]]
}
plugin "c" {
  environment      = { A = "x" }
  pass_environment = ["A", ""]
}
plugin "d" {
  environment      = { A = "x" }
  pass_environment = ["B", "A"]
}
profile "x-push" {
  direction  = "sideways"
  allow_http = "yes"
  types      = { a = "" }
}
profile "y-push" {
  direction = "pull"
  type      = "Discard"
  types     = { a = "Discard" }
}
profile "neither" {}
token {
  lifetime       = null
  max_bytes      = "20GB"
  max_concurrent = 0
  max_duration   = ["1h"]
}
transfer {
  digests             = ["md5"]
  checkpoint_interval = "0s"
  retry {
    first = "1m"
  }
}
telemetry {
  log_level  = 3
  log_format = "xml"
}
dataset "a" {
  source "File" {
    path  = ["a"]
    path2 = null
    deep {
    }
    properties = { path = "x", "b" = { c = "d" } }
  }
  sink "File" {
    endpoint   = ""
    properties = ["a"]
  }
}
