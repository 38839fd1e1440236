"""What a bootstrap server gives a device, and how far that got (Core 1.2.2 §6.1; contract §5; device platform §12).

`configuration` is what people wrote, `account` what that means for one device, `discovered` what the device holds
already, `plan` the difference and `pack` the same in one answer, `dry_run` shows either to people; `conversation` is
the session, `history` what is kept of it, `summaries` what people may see of a payload. `enrolment` reads what a device
asks for that makes its key itself. Start with `plan` and `conversation`.
"""
