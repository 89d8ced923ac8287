dataplane "d" {}
plugins { directory = "plugins" }
profile "a-push" {
  provision = "Topic"
}
control_plane "cp" {
  endpoint = "https://cp.example.com"
}
