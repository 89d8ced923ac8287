dataplane "d" {}
plugins {
  directory = "plugins"
  trust     = "off"
}
profile "http-pull" {}
control_plane "empty" {
  endpoint = "https://cp.example.com"
  authorization "static" {
    header = "Authorization"
  }
}
control_plane "plain" {
  endpoint = "https://cp.example.com"
  authorization "static" {
    inbound  = "hunter2"
    outbound = env("TOWPATH_TEST_SET")
  }
}
control_plane "bearer" {
  endpoint = "https://cp.example.com"
  authorization "static" {
    inbound  = "Bearer ${secret("../token.secret")}"
    outbound = secret("../the.secret")
  }
}
control_plane "headers" {
  endpoint = "https://cp.example.com"
  authorization "static" {
    header   = "content-length"
    inbound  = " ${secret("../token.secret")}"
    outbound = secret("../broken.secret")
  }
}
control_plane "values" {
  endpoint = "https://cp.example.com"
  authorization "static" {
    header   = "X Token"
    inbound  = [secret("../token.secret")]
    outbound = "hunter2" + 1
  }
}
control_plane "nothing" {
  endpoint = "https://cp.example.com"
  authorization "static" {
    inbound  = secret("../nowhere.secret")
    outbound = substr(secret("../the.secret"), 0, 0)
  }
}
