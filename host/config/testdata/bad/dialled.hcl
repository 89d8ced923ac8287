dataplane "d" {}
control_plane "cp" {
  endpoint = "https://cp.example.com"
}
plugins {
  directory = "plugins"
  trust     = "off"
}
profile "http-pull" {}
plugin "a" {
  address = "tcp://127.0.0.1:7443"
}
plugin "b" {
  address          = "unix:///run/b.sock"
  binary           = "b"
  sha256           = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"
  publisher        = "acme"
  environment      = { TZ = "UTC" }
  pass_environment = ["HOME"]
  stop_timeout     = "1s"
  lane             = "grpc"
  lane_buffer      = "1MiB"
  mtls             = "on"
  start            = "always"
  limits {}
  permissions {}
  tls {
    certificate = "no.pem"
  }
}
plugin "c" {
  tls {
    certificate = "no.pem"
    key         = "no.key"
    ca          = "../digest.txt"
    client_ca   = "x"
  }
}
plugin "d" {
  address = "tcp://:7443"
}
plugin "e" {
  address = "http://plugin.internal"
}
plugin "f" {
  address = 7443
}
plugin "g" {
  address = "unix://run/g.sock"
}
