dataplane "d" {}
control_plane "cp" {
  endpoint = "https://cp.example.com"
}
plugins {
  directory = "plugins"
  trust     = "off"
}
profile "http-pull" {}
listen "signaling" {
  address = secret("../the.secret")
}
plugin "http" {
  environment = {
    A = "x"
    B = secret("../the.secret")
  }
  config {
    allow = secret("../the.secret") + 1
  }
}
dataset "a" {
  source "HttpData" {
    endpoint = secret("../the.secret")
    a        = { x = 1 }[secret("../the.secret")]
    b        = env(secret("../the.secret"))
    c        = file("${secret("../the.secret")}.txt")
    d        = secret(secret("../the.secret"))
    e        = [secret("../the.secret")]
    f        = secret("../the.secret") ? 1 : 2
    g        = { (secret("../the.secret")) = "x" }
    h        = [for k in secret("../the.secret") : k]
    i        = -secret("../the.secret")
    j        = secret("../the.secret").x
    k        = enw(secret("../the.secret"))
    l        = env("A", "B", secret("../the.secret"))
    m        = { (secret("../the.secret")) = 1, "${secret("../the.secret")}" = 2 }
    n        = { for k in [1, 2] : secret("../the.secret") => k }
    o        = env([secret("../the.secret")]...)
  }
}
dataset "names" {
  source "HttpData" {
    properties = { (secret("../the.secret")) = null }
  }
  sink "HttpData" {
    properties = { for k in [1] : secret("../the.secret") => null }
  }
}
dataset "condition" {
  source "HttpData" {
    properties = secret("../the.secret") == "" ? { a = null } : { b = null }
  }
  sink "HttpData" {
    properties = { "a" = { (secret("../the.secret")) = null } }
  }
}
plugin "kinds" {
  config {
    by_name = { "${secret("../the.secret")}" = null }
  }
}
