# Participants, control planes, and what lies between them.

dataplane "dataspace" {}

listen "signaling" {
  address   = ":8443"
  url       = "https://signaling.example.com/"
  base_path = "/v1"
  tls {
    certificate = "../host.pem"
    key         = "../host.key"
    client_ca   = "../host.pem"
  }
}

listen "public" {
  url = "HTTPS://data.example.com"
}

listen "admin" {
  address = "10.0.0.1:8082"
  token   = secret("../token.secret")
}

plugins {
  directory = "plugins"
  trust     = "off"
}

outbound {
  allow   = ["loopback", "10.0.0.0/8", "fd00::/8", "192.168.1.1", "::1", "[::1]:443", "idp.example.internal", "idp.example.internal:8443"]
  timeout = "3s"
}

participant_context "alice" {
  did              = "did:web:alice.example"
  registration_key = secret("../token.secret")
}

participant_context "did:web:bob.example" {
  did    = "did:web:bob.example%3A8443:users:bob"
  key    = "../host.key"
  key_id = "#sign"
}

participant_context "key" {
  did = "did:key:zDnaerDaTF5BXEavCrfRZEk316dpbLsfPDZ3WJ5hRTPFU2169"
  key = "../host.key"
}

participant_context "jwk" {
  did = "did:jwk:eyJrdHkiOiJFQyJ9"
  key = "../host.key"
}

participant_context "carol" {
  did    = "did:web:carol.example"
  key_id = "did:web:carol.example#sign"
}

control_plane "plain" {
  endpoint            = "https://cp.example.com/base/"
  participant_context = "alice"
  timeout             = "1s"
  tls {
    ca          = "../host.pem"
    certificate = "../host.pem"
    key         = "../host.key"
  }
  authorization "oauth2_client_credentials" {
    jwks_uri                = "https://cp.example.com/jwks?v=1"
    insecure_skip_signature = false
  }
  registration {}
}

control_plane "client" {
  endpoint            = "https://client.example.com"
  participant_context = "did:web:bob.example"
  authorization "oauth2_client_credentials" {
    issuer         = "https://idp.example.com"
    subject        = "service-account-client"
    audiences      = ["dataspace", "https://signaling.example.com"]
    jwks           = file("../keys.json")
    single_use     = true
    token_endpoint = "http://localhost:8080/token"
    client_id      = "dataspace"
    client_secret  = "${secret("../the.secret")}!"
    scope          = "a b"
    audience       = "client"
    resource       = "urn:example:client"
  }
  registration {
    endpoint           = "https://client.example.com/management/v4/"
    dataplane_endpoint = "https://elsewhere.example.com/dataflows"
    labels             = ["eu"]
    headers = {
      x-api-key     = secret("../token.secret")
      Authorization = "Bearer ${secret("../token.secret")}"
      X-Tenant      = "bob"
    }
    deregister_on_stop = true
    authorization "oauth2_client_credentials" {
      token_endpoint = "https://idp.example.com/token"
      client_id      = "client"
      client_secret  = secret("../token.secret")
      jwks           = file("../keys.json")
    }
  }
}

control_plane "exchange" {
  endpoint = "https://exchange.example.com"
  authorization "oauth2_token_exchange" {
    issuer                  = "https://broker.example.com"
    jwks_uri                = "https://broker.example.com/jwks"
    audiences               = ["dataspace"]
    subject                 = "connector"
    required_scope          = "signaling"
    single_use              = true
    token_exchange_endpoint = "https://broker.example.com/token"
    subject_token           = "token"
    audience                = "connector"
    resource                = "https://connector.example.com"
    scope                   = "signaling"
  }
  registration {
    authorization "oauth2_token_exchange" {
      token_exchange_endpoint = "https://broker.example.com/token"
      issuer                  = "https://broker.example.com"
      jwks_uri                = "https://broker.example.com/jwks"
      resource                = "https://signaling.example.com"
      audience                = "dataspace"
      scope                   = "signaling"
    }
  }
}

# The same one for another participant: its tokens name the participant context.
control_plane "exchange-carol" {
  endpoint            = "https://exchange.example.com"
  participant_context = "carol"
  authorization "oauth2_token_exchange" {
    issuer   = "https://broker.example.com"
    jwks_uri = "https://broker.example.com/jwks"
    subject  = "connector"
  }
}

control_plane "lab" {
  endpoint = "http://127.0.0.1:8080"
  authorization "oauth2_client_credentials" {
    insecure_skip_signature = true
  }
}

control_plane "gateway" {
  endpoint = "https://gateway.example.com"
  authorization "static" {
    header   = "x-gateway"
    inbound  = secret("../the.secret")
    outbound = secret("../token.secret")
  }
}

control_plane "bearer" {
  endpoint = "https://bearer.example.com"
  authorization "static" {
    inbound = secret("../token.secret")
  }
}

# Bearer tokens of the same text from both, but in other headers.
control_plane "other-header" {
  endpoint = "https://other.example.com"
  authorization "static" {
    header  = "X-Api-Key"
    inbound = secret("../token.secret")
  }
}

profile "https://w3id.org/dspace-sig/profile/http-pull" {
  mode      = "async"
  provision = "Topic"
}

profile "https://w3id.org/dspace-sig/profile/http-push" {
  strict  = false
  renewal = "offer"
  mode    = "sync"
}

profile "HttpData-PULL" {
  strict     = true
  allow_http = true
  mode       = "auto"
  renewal    = "off"
}

profile "HttpData-PUSH" {}

dataset "a" {
  participant_context = "alice"
  mode                = "async"
  source "Generate" {}
}

dataset "a" {
  source "Generate" {}
}

signaling {
  answer_within = "500ms"
}

token {
  lifetime         = "5m"
  refresh_lifetime = "24h"
  renewal_grace    = "1m"
}
