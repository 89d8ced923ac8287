dataplane "d" {}
control_plane "cp" {
  endpoint = "https://cp.example.com"
}
plugins {
  directory = "plugins"
  trust     = "off"
}
profile "http-pull" {}
dataset "a" {
  source "File" {
    a = env("TOWPATH_TEST_UNSET")
    b = env("TOWPATH_TEST_EMPTY")
    c = file("nowhere.txt")
    d = file(".")
    e = enw("X")
    f = env("A", "B", "C")
    g = env()
    h = path(null)
    i = file("/dev/null")
    j = whoami
    k = secret("nowhere.secret")
    l = secret("../open.secret")
    m = env([])
  }
}
