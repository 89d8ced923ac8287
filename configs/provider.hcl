# The provider of `make demo`. The demo picks free ports and hands them over in the environment.

dataplane "demo-provider" {
  data_dir = env("TOWPATH_DATA_DIR", "../.towpath/demo/provider")
}

listen "signaling" {
  address = env("TOWPATH_SIGNALING", "127.0.0.1:18180")
}

listen "public" {
  address = env("TOWPATH_PUBLIC", "127.0.0.1:18181")
}

listen "admin" {
  address = env("TOWPATH_ADMIN", "127.0.0.1:18182")
}

control_plane "demo-provider" {
  endpoint = env("TOWPATH_CONTROL_PLANE", "http://127.0.0.1:18190")
}

plugins {
  directory = env("TOWPATH_PLUGINS", "../.towpath/plugins")
  trust     = env("TOWPATH_TRUST", "directory")
}

# The provider only ever reads its files.
plugin "file" {
  config {
    root      = env("TOWPATH_FILES", path("../.towpath/demo/provider/files"))
    read_only = true
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

# A directory of several files; each becomes a part of the flow.
dataset "demo" {
  source "File" {
    path = "demo"
  }
}

# SHA-256 beside the checksum that is always there, so that the demo can compare both ends.
transfer {
  digests = ["sha256"]
}
