dataplane "d" {}
control_plane "cp" {
  endpoint = "https://cp.example.com"
}
plugins {
  directory = "plugins"
  trust     = "off"
}
profile "http-pull" {}
plugin "kinds" {
  config {
    text     = secret("../the.secret")
    colour   = secret("../the.secret")
    span     = secret("../the.secret")
    password = ["hunter2"]
    pin      = "hunter2"
    names    = [secret("../the.secret"), {}]
  }
}
plugin "http" {}
dataset "a" {
  source "Kinds" {
    label = secret("../the.secret")
    token = "hunter2"
  }
}
dataset "b" {
  source "HttpData" {
    baseUrl  = secret("../the.secret")
    authCode = "hunter2"
  }
}
