config {
  root = dir
}

file {
  path = "one.bin"
  size = "3000001"
}

file {
  path = "sized/${size}"
  size = size
}

file {
  path = "large"
  size = "64MiB"
}

source "File" {
  sourceFile = "one.bin"

  sized { sourceFile = "sized/${size}" }
  large { sourceFile = "large" }
  missing { sourceFile = "nothing" }
}
