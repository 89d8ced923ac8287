dataplane "d" {}
control_plane "cp" {
  endpoint = "https://cp.example.com"
}
plugins {
  directory = "plugins"
  trust     = "off"
}
profile "http-pull" {}
plugin "file" {
  config {
    root = "/x"
  }
}
plugin "http" {}
dataset "unknown types" {
  source "Fil" {
    path = "x"
  }
  sink "Gopher" {}
}
dataset "of a plugin without its configuration" {
  source "Tape" {}
}
dataset "of a plugin that needs none" {
  source "Generate" {}
}
dataset "only read" {
  sink "Tape" {}
}
dataset "schema" {
  source "File" {
    pth = "x"
  }
  sink "File" {
    path      = "x"
    collision = "overwrite"
  }
}
dataset "url" {
  source "HttpData" {
    properties = {
      other   = "x"
      baseUrl = "example.com"
    }
  }
}
