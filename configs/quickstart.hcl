# One data plane to try things out with. Everything listens on this machine only and speaks plain HTTP.
#
#   towpath validate -config configs/quickstart.hcl
#   towpath serve    -config configs/quickstart.hcl

dataplane "quickstart" {
  data_dir = "../.towpath/quickstart" # relative to this file
}

# Control planes send their signals here.
listen "signaling" {
  address = "127.0.0.1:18080"
}

# Counterparties fetch and deliver data here.
listen "public" {
  address = "127.0.0.1:18081"
}

# Operators look here: flows, health, metrics.
listen "admin" {
  address = "127.0.0.1:18082"
}

# Callbacks go here. Nobody has to listen: they are kept and tried again.
control_plane "local" {
  endpoint = "http://127.0.0.1:18090"
}

plugins {
  directory = "../.towpath/plugins"
  trust     = env("TOWPATH_TRUST", "directory") # run what stands in the directory, as long as only you or root can write there
}

# Reads and writes files below one folder, which has to exist.
plugin "file" {
  config {
    root = path("../.towpath/quickstart/files")
  }
}

# Reads from and writes to web servers. Without "loopback" it would refuse those on this machine.
plugin "http" {
  config {
    allow = ["loopback"]
  }
}

# Makes data up, and throws data away.
plugin "synthetic" {}

# The counterparty fetches. For real dataspaces there is https://w3id.org/dspace-sig/profile/http-pull, which insists on HTTPS.
profile "http-pull" {
  type       = "HttpData"
  allow_http = true
}

# We deliver to the counterparty, or it delivers to us.
profile "http-push" {
  type       = "HttpData"
  allow_http = true
}

# 64 MiB that are the same every time. As a consumer, whatever arrives is counted and thrown away.
dataset "hello" {
  source "Generate" {
    size = "64MiB"
    seed = 1
  }

  sink "Discard" {
    digest = true
  }
}

# Your own files: those in .towpath/quickstart/files/outbox. What arrives goes to …/inbox, and never over a file that is there.
dataset "files" {
  source "File" {
    path = "outbox"
  }

  sink "File" {
    path = "inbox"
  }
}
