environment = { BROKEN_DIR = dir }

config {
  dir = dir
}

file {
  path = "in/a"
  size = 3000001
}
file {
  path    = "in/b/c d"
  content = "hello"
}
file {
  path = "in/empty"
}

source "Box" {
  path = "in"
  sized   { size = size }
  missing { path = "nowhere" }
  many {
    size  = 10
    parts = parts
  }
  large {
    size = "48MiB"
  }
}

source "Tape" {
  records = 3000
}

sink "Box" {
  path = "out/${flow}"
  read_back "Box" { path = "out/${flow}" }
  missing {
    path = "nowhere"
    mode = "old"
  }
}

sink "Void" {}
