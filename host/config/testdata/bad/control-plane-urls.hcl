dataplane "d" {}
control_plane "cp" {
  endpoint      = "https://user:password@cp.example.com"
  protocol      = "edc"
  give_up_after = "0s"
}
plugins {
  directory = ""
}
store "postgres" {}
profile "http-pull" {}
