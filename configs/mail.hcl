# Files become mails: a data plane that sends single files to counterparties, as attachments. Its two plugins are written like anyone's:
# `onefile` reads one file, `mail` sends it through an SMTP server. `make build` puts them into a directory of their own.
#
# The asset of the provider's control plane:           {"type": "File", "sourceFile": "report.csv"}
# The consumer asks for the transfer type Mail-PUSH, to {"type": "Mail", "recipient": "them@consumer.example"}

dataplane "mail" {
  data_dir = env("TOWPATH_DATA_DIR", "../.towpath/mail/data") # relative to this file
}

listen "signaling" {
  address = env("TOWPATH_SIGNALING", "127.0.0.1:18480")
}

listen "public" {
  address = env("TOWPATH_PUBLIC", "127.0.0.1:18481")
}

listen "admin" {
  address = env("TOWPATH_ADMIN", "127.0.0.1:18482")
}

# An EDC connector: it finds signaling at http://127.0.0.1:18480/edc/edc/v1/dataflows, where this registers it, and sends both addresses.
control_plane "edc" {
  protocol = "edc"
  endpoint = env("TOWPATH_CONTROL_PLANE", "http://127.0.0.1:18490/api/control")

  registration {}
}

plugins {
  directory = env("TOWPATH_PLUGINS", "../.towpath/mail/plugins")
  trust     = env("TOWPATH_TRUST", "directory")
}

# Reads addresses of type File, as the plugin `file` does, by other properties. Where both are in the directory, the one that has a block
# offers the type, and the list of plugins says of the other why it does not.
plugin "onefile" {
  config {
    root = env("TOWPATH_FILES", path("../.towpath/mail/files")) # it has to exist; no address and no link leads out of it
  }

  permissions {
    read    = [env("TOWPATH_FILES", "../.towpath/mail/files")]
    connect = []
  }
}

# Everything goes to the operator's own SMTP server. A local one, without TLS and password; elsewhere, for example:
#
#   server   = "smtp.provider.example"
#   tls      = "starttls"                  # the default: 587, and nothing without TLS. "implicit": 465
#   username = "dataplane"
#   password = secret("mail.secret")
plugin "mail" {
  config {
    server           = env("TOWPATH_MAIL_SERVER", "127.0.0.1")
    port             = env("TOWPATH_MAIL_PORT", "1025")
    tls              = "off"
    sender           = "Data Space <dataspace@provider.example>"
    allow_recipients = ["*@consumer.example"] # whom counterparties may name. Default: everyone
    max_message      = "25MiB"                # as it is sent, which is some 37 % more than the file
  }

  permissions {
    connect = ["${env("TOWPATH_MAIL_SERVER", "127.0.0.1")}:*"]
  }
}

profile "Mail-PUSH" {
  type = "Mail"
}

# For control planes that send no address of the asset, as with Data Plane Signaling.
dataset "file-asset" {
  source "File" {
    sourceFile = "report.csv"
  }
}
