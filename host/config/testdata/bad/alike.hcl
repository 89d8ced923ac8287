dataplane "d" {}
plugins {
  directory = "plugins"
  trust     = "off"
}
profile "http-pull" {}
participant_context "alice" {
  registration_key = secret("../token.secret")
}
participant_context "bob" {
  registration_key = secret("../token.secret")
}
control_plane "a" {
  endpoint = "https://cp.example.com"
  authorization "oauth2_client_credentials" {
    issuer   = "https://idp.example.com"
    subject  = "x"
    jwks_uri = "https://idp.example.com/jwks"
  }
}
control_plane "b" {
  endpoint            = "https://cp.example.com"
  participant_context = "alice"
  authorization "oauth2_client_credentials" {
    subject  = "x"
    jwks_uri = "https://idp.example.com/jwks"
  }
}
control_plane "x" {
  endpoint = "https://cp.example.com"
  authorization "oauth2_client_credentials" {
    insecure_skip_signature = true
  }
}
control_plane "other-subject" {
  endpoint = "https://cp.example.com"
  authorization "oauth2_client_credentials" {
    jwks_uri = "https://idp.example.com/jwks"
  }
}
control_plane "other-issuer" {
  endpoint = "https://cp.example.com"
  authorization "oauth2_client_credentials" {
    issuer    = "https://another.example.com"
    audiences = ["only"]
    subject   = "x"
    jwks_uri  = "https://idp.example.com/jwks"
  }
}
control_plane "other-keys" {
  endpoint = "https://cp.example.com"
  authorization "oauth2_client_credentials" {
    audiences = ["d", "only"]
    subject   = "other-subject"
    jwks      = file("../keys.json")
  }
}
control_plane "exchange" {
  endpoint = "https://cp.example.com"
  authorization "oauth2_token_exchange" {
    issuer   = "https://idp.example.com"
    jwks_uri = "https://idp.example.com/jwks"
  }
}
control_plane "exchange-again" {
  endpoint = "https://cp.example.com"
  authorization "oauth2_token_exchange" {
    issuer   = "https://idp.example.com"
    jwks_uri = "https://idp.example.com/jwks"
    subject  = "exchange"
  }
}
