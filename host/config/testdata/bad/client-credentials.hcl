dataplane "d" {}
plugins {
  directory = "plugins"
  trust     = "off"
}
profile "http-pull" {}
control_plane "no-keys" {
  endpoint = "https://cp.example.com"
  authorization "oauth2_client_credentials" {
    issuer                  = ""
    audiences               = []
    insecure_skip_signature = false
    token_endpoint          = "https://idp.example.com/token"
    client_id               = "d"
  }
}
control_plane "all-keys" {
  endpoint = "https://cp.example.com"
  authorization "oauth2_client_credentials" {
    jwks_uri                = "https://cp.example.com/jwks"
    jwks                    = file("../keys.json")
    insecure_skip_signature = true
    client_id               = "d"
    client_secret           = "hunter2"
    scope                   = "a"
  }
}
control_plane "two-keys" {
  endpoint = "https://cp.example.com"
  authorization "oauth2_client_credentials" {
    jwks_uri                = "https://user:hunter2@cp.example.com/jwks"
    insecure_skip_signature = true
    subject                 = ""
    audiences               = ["a", ""]
    single_use              = "often"
    token_endpoint          = "https://idp.example.com/token#x"
    client_secret           = secret("../broken.secret")
    resource                = "relative"
  }
}
control_plane "bad-keys" {
  endpoint = "https://cp.example.com"
  authorization "oauth2_client_credentials" {
    jwks = secret("../keys.json")
  }
}
control_plane "no-set" {
  endpoint = "https://cp.example.com"
  authorization "oauth2_client_credentials" {
    jwks = "{}"
  }
}
control_plane "empty-set" {
  endpoint = "https://cp.example.com"
  authorization "oauth2_client_credentials" {
    jwks = "{\"keys\": []}"
  }
}
control_plane "symmetric" {
  endpoint = "https://cp.example.com"
  authorization "oauth2_client_credentials" {
    jwks = "{\"keys\": [{\"kty\": \"oct\", \"k\": \"hunter2\"}]}"
  }
}
control_plane "private" {
  endpoint = "https://cp.example.com"
  authorization "oauth2_client_credentials" {
    jwks = "{\"keys\": [{\"kty\": \"OKP\", \"x\": \"x\"}, {\"kty\": \"EC\", \"d\": \"hunter2\"}]}"
  }
}
control_plane "unknown" {
  endpoint = "https://cp.example.com"
  authorization "oauth2_client_credential" {
    jwks = "{}"
  }
}
control_plane "misspelt" {
  endpoint = "https://cp.example.com"
  authorization "oauth2_client_credentials" {
    jwks_url = "https://cp.example.com/jwks"
  }
}
