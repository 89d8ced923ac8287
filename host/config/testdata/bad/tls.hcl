dataplane "d" {}
control_plane "cp" {
  endpoint = "https://cp.example.com"
}
plugins {
  directory = "plugins"
  trust     = "off"
}
profile "http-pull" {}
listen "public" {
  tls {
    certificate = "no.pem"
    key         = "no.key"
  }
}
listen "admin" {
  tls {
    certificate = "../digest.txt"
    key         = "../digest.txt"
  }
}
