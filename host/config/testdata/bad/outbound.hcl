dataplane "d" {}
plugins {
  directory = "plugins"
  trust     = "off"
}
profile "http-pull" {}
control_plane "cp" {
  endpoint = "https://cp.example.com"
}
outbound {
  allow      = ["loopback", "*"]
  allow_http = "no"
  timeout    = "soon"
}
outbound {}
signaling {
  answer_within = "0s"
}
listen "signaling" {
  url = "https://example.com/path"
}
listen "public" {
  address = "127.0.0.1:1"
  token   = secret("../token.secret")
  tls {
    certificate = "../host.pem"
    key         = "../host.key"
    client_ca   = "../keys.json"
  }
}
listen "admin" {
  token = "hunter2"
  tls {
    certificate = "../host.pem"
    key         = "../host.key"
    client_ca   = "."
  }
}
token {
  lifetime         = "1h"
  refresh_lifetime = "30m"
  renewal_grace    = "31m"
}
