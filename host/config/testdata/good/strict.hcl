# Counterparties are told an http:// URL, which the profiles forbid. But we only fetch with the one, and a plugin makes the addresses of
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

profile "https://w3id.org/dspace-sig/profile/http-pull" {}

profile "https://w3id.org/dspace-sig/profile/http-push" {
  provision = "Topic"
}

dataset "a" {
  sink "Discard" {}
}
