"""What people see in the browser: live pages behind a login (NiceGUI), beside the faces for programs.

``attach`` puts the pages on the HTTP application; ``gate`` stands before every one of them: who may in, which headers
go out, which origins may speak to us; ``sessions`` remembers who signed in by a signed cookie; ``nicegui_host`` starts
and ends the one NiceGUI of this process. ``pages`` has a module for each page, ``frame`` what all pages share,
``live_table`` a table that takes only what changed, ``files`` style and script.

Contents come from `app.views`, which reads them at most once a second, for all pages that show the same and only while
one of them is visible; a page pushes what differs from what it showed. Nothing here decides: commands, accounts and
devices are `app`'s. Start reading at ``gate``, then ``pages/devices``.
"""

from stellwerk.console.attach import Console, attach_console
from stellwerk.console.services import ConsoleServices

__all__ = ["Console", "ConsoleServices", "attach_console"]
