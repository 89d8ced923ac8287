"""What the plugin declares of its configuration and of its addresses, and the checks that follow from it."""

import json

from towpath.plugin.v1 import plugin_pb2 as pb

from .errors import invalid, invalid_fields

TYPE = "PyFile"
FAIL, REPLACE = "fail", "replace"

CONFIG = pb.Schema(
    fields=[
        pb.Field(
            name="root",
            kind=pb.FIELD_KIND_STRING,
            required=True,
            documentation="Folder that all paths are relative to and that nothing leads out of. It has to exist.",
        ),
        pb.Field(name="read_only", kind=pb.FIELD_KIND_BOOL, documentation="Refuse to write."),
    ]
)

SOURCE = pb.AddressType(
    type=TYPE,
    documentation="One file, or all files below a folder. Symbolic links are not followed.",
    resumable=True,
    address=pb.Schema(
        fields=[
            pb.Field(
                name="path", kind=pb.FIELD_KIND_STRING, required=True, documentation="File or folder, relative to `root`."
            )
        ]
    ),
)

SINK = pb.AddressType(
    type=TYPE,
    documentation="A folder that parts are written to, each by its name.",
    resumable=True,
    address=pb.Schema(
        fields=[
            pb.Field(
                name="path",
                kind=pb.FIELD_KIND_STRING,
                default_value=".",
                documentation="Folder, relative to `root`. It is made if it is not there.",
            ),
            pb.Field(
                name="collision",
                kind=pb.FIELD_KIND_STRING,
                default_value=FAIL,
                one_of=[FAIL, REPLACE],
                documentation="What happens to a part whose name is taken: the flow fails, or the other file is replaced.",
            ),
        ]
    ),
)


def read_config(text):
    """Returns the configuration as a dict, or raises what is wrong with it."""
    try:
        config = json.loads(text or b"{}")
    except ValueError:
        raise invalid("the configuration is not JSON") from None
    if not isinstance(config, dict):
        raise invalid("the configuration is not a JSON object")
    kinds = {"root": str, "read_only": bool}
    wrong = [(name, "is not a field of the configuration") for name in config if name not in kinds]
    wrong += [(name, f"is not of the kind {kind.__name__}") for name, kind in kinds.items() if not isinstance(config.get(name, kind()), kind)]
    if not wrong and not config.get("root"):
        wrong = [("root", "is required")]
    if wrong:
        raise invalid_fields(wrong)
    return config


def local_name(name):
    """What follows the last '/' or '#': control planes write properties by their full names."""
    return name[max(name.rfind("/"), name.rfind("#")) + 1 :]


def get(address, name):
    """The property of an address by its exact name or, failing that, by its local name; "" if there is none."""
    if name in address.properties:
        return address.properties[name]
    for full in sorted(address.properties):
        if local_name(full) == name:
            return address.properties[full]
    return ""


def check_address(address, declared):
    """Returns what is wrong with an address, as pairs of field and message. Another type is not a matter of fields, and is raised."""
    if address.type != declared.type:
        raise invalid(f'addresses of type "{address.type}" are not for this plugin')
    fields = {f.name: f for f in declared.address.fields}
    wrong = [(f.name, "is required") for f in fields.values() if f.required and not get(address, f.name)]
    for name, value in sorted(address.properties.items()):
        f = fields.get(name) or fields.get(local_name(name))
        if not f:
            wrong.append((name, f"is not a property of {declared.type}"))
        elif f.one_of and value and value not in f.one_of:
            wrong.append((name, f'"{value}" is not one of {", ".join(f.one_of)}'))
    return wrong + [("path", why) for why in check_path(get(address, "path"))]


def check_path(path):
    """Says what is wrong with a path below the root."""
    elements = path.split("/")
    if path.startswith("/"):
        yield "has to be relative to the root"
    elif ".." in elements:
        yield 'must not contain ".."'
    elif "\0" in path:
        yield "contains a zero byte"
    elif is_own(elements):
        yield f"leads into the folder {WORK}, which is the plugin's own"


# WORK is where the sink keeps what is not whole, below the root. The source does not show it.
WORK = ".towpath"


def is_own(elements):
    """Whether a path leads into the work folder, by the letters but not by their case, which some file systems ignore."""
    plain = [e for e in elements if e not in ("", ".")]
    return bool(plain) and plain[0].lower() == WORK


def check_name(name):
    """Raises what is wrong with the name of a part: a relative path that is safe to join to a folder and to show on a terminal."""
    try:
        size = len(name.encode())
    except UnicodeEncodeError:
        raise invalid("the name of a part is not UTF-8") from None
    elements = name.split("/")
    if not name or size > 1024:
        raise invalid("the name of a part has to have 1 to 1024 bytes")
    if "\\" in name or any(e in ("", ".", "..") for e in elements):
        raise invalid(f"part name {name!r} is not a plain relative path")
    if any(ord(c) < 0x20 or ord(c) == 0x7F or c == "\ufffd" for c in name):
        raise invalid(f"part name {name!r} has control characters or is not UTF-8")
