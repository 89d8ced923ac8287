# No control plane is configured: they register themselves. All of them can require renewal, since their participant has a DID.

dataplane "registration-only" {}

listen "signaling" {
  address = "0.0.0.0:0"
}

plugins {
  directory = "plugins"
  trust     = "off"
}

participant_context "default" {
  did              = "did:web:participant.example"
  registration_key = secret("../token.secret")
}

# Not used, so that it needs no DID.
participant_context "spare" {}

profile "https://w3id.org/dspace-sig/profile/http-pull" {
  renewal = "require"
}

token {
  lifetime = "1000h"
}
