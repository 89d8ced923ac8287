dataplane "d" {}
plugins {
  directory = "plugins"
  trust     = "off"
}
control_plane "cp" {
  endpoint = "https://cp.example.com"
}
profile "a-pull" {
  response {
    provision = "Topci"
  }
}
profile "HttpData-PULL-Discard" {}
profile "b-push" {
  response {
    type = "Topic"
  }
}
dataset "d" {
  source "Generate" {
    size = "1KiB"
  }
  response "Discrad" {}
}
