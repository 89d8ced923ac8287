source "Generate" {
  size  = 3000001
  parts = 2

  sized { 
    size = size
    parts = 1
  }
  many {
    size  = 10
    parts = parts
  }
  large {
    size  = "64MiB"
    parts = 1
  }
}

sink "Discard" {
  digest = true
  records {}
}
