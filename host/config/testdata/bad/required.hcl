dataplane "d" {}
control_plane "cp" {}
plugins {}
profile "http-pull" {}
listen "public" {
  tls {}
}
