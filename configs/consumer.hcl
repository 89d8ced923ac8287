# The consumer of `make demo`. The demo picks free ports and hands them over in the environment.

dataplane "demo-consumer" {
  data_dir = env("TOWPATH_DATA_DIR", "../.towpath/demo/consumer")
}

listen "signaling" {
  address = env("TOWPATH_SIGNALING", "127.0.0.1:18280")
}

listen "public" {
  address = env("TOWPATH_PUBLIC", "127.0.0.1:18281")
}

listen "admin" {
  address = env("TOWPATH_ADMIN", "127.0.0.1:18282")
}

control_plane "demo-consumer" {
  endpoint = env("TOWPATH_CONTROL_PLANE", "http://127.0.0.1:18290")
}

plugins {
  directory = env("TOWPATH_PLUGINS", "../.towpath/plugins")
  trust     = env("TOWPATH_TRUST", "directory")
}

plugin "file" {
  config {
    root = env("TOWPATH_FILES", path("../.towpath/demo/consumer/files"))
  }
}

# Both hosts of the demo are on one machine.
plugin "http" {
  config {
    allow = ["loopback"]
  }
}

profile "http-pull" {
  type       = "HttpData"
  allow_http = true
}

profile "http-push" {
  type       = "HttpData"
  allow_http = true
}

# The demo moves the same files more than once, so that later ones replace earlier ones.
dataset "demo" {
  sink "File" {
    path      = "demo"
    collision = "replace"
  }
}

# SHA-256 beside the checksum that is always there, so that the demo can compare both ends.
transfer {
  digests = ["sha256"]
}
