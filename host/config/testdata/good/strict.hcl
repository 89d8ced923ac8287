# Counterparties are told an http:// URL, which the profiles forbid. But we only deliver with the one, and a plugin makes the addresses of
# the other.

dataplane "strict" {}

listen "signaling" {
  address = ":0"
}

control_plane "cp" {
  endpoint = "https://cp.example.com"
  registration {}
  authorization "static" {
    outbound = secret("../token.secret")
  }
}

plugins {
  directory = "plugins"
  trust     = "off"
}

profile "https://w3id.org/dspace-sig/profile/http-push" {}

profile "https://w3id.org/dspace-sig/profile/http-pull" {
  provision = "Topic"
}

dataset "a" {
  source "Generate" {
    size = 1
  }
}
