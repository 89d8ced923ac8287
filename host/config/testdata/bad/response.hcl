dataplane "d" {}
plugins { directory = "plugins" }
profile "a-pull" {
  response {
    linger = "30s"
  }
}
profile "b-push" {
  response {
    type   = ""
    lingre = "30s"
  }
  response {}
}
dataset "d" {
  sink "Discard" {}
  response "Discard" {}
}
control_plane "cp" {
  endpoint = "https://cp.example.com"
}
