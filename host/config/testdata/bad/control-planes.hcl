dataplane "d" {}
plugins {
  directory = "plugins"
  trust     = "off"
}
profile "http-pull" {}
control_plane "cp" {
  endpoint = "https://cp.example.com"
}
control_plane "tls" {
  endpoint = "http://cp.example.com"
  tls {
    ca = "../host.pem"
  }
  authorization "static" {
    outbound = secret("../token.secret")
  }
}
control_plane "empty-tls" {
  endpoint = "https://cp.example.com"
  timeout  = "0s"
  tls {}
  authorization "static" {
    inbound = secret("../token.secret")
  }
}
control_plane "half-tls" {
  endpoint            = "https://cp.example.com:99999"
  participant_context = ""
  tls {
    ca  = "../host.key"
    key = "../host.key"
  }
  tls {}
  authorization "static" {
    header  = "X-Token"
    inbound = secret("../token.secret")
  }
  authorization "static" {}
  registration {}
  registration {}
}
control_plane "no-ca" {
  endpoint = "https://cp.example.com"
  tls {
    ca          = "nowhere.pem"
    certificate = "../host.pem"
  }
  authorization "mtls" {}
}
control_plane "alike" {
  endpoint = "https://cp.example.com"
  authorization "static" {
    header  = "x-token"
    inbound = secret("../token.secret")
  }
}
