"""The parts of tyro that commands use; tyro belongs to an extra."""

from pydisent._extras import optional

with optional("the command line"):
    from tyro.conf import Positional, arg
    from tyro.extras import subcommand_cli_from_dict

__all__ = ["Positional", "arg", "subcommand_cli_from_dict"]
