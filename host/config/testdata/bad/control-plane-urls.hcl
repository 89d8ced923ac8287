dataplane "d" {}
control_plane "cp" {
  endpoint      = "https://user:hunter2@cp.example.com"
  protocol      = "edc"
  give_up_after = "0s"
}
plugins {
  directory = ""
}
store "postgres" {}
profile "http-pull" {}
