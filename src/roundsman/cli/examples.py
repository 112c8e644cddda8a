"""The examples at the end of each command's help. tests/docs/test_commands.py runs them, as it runs the lines of the pages."""

from collections.abc import Mapping

EXAMPLES: Mapping[str, tuple[str, ...]] = {
    "": (
        "roundsman init                      # write roundsman.toml",
        "roundsman check --live              # find mistakes, ask each vendor once",
        "roundsman run                       # until Ctrl-C",
        "roundsman help first-event          # the same, step by step",
    ),
    "init": (
        "roundsman init",
        "roundsman init --example github >> roundsman.toml",
    ),
    "check": (
        "roundsman check",
        "roundsman check --live              # also send a request to each source",
    ),
    "schema": (
        "roundsman schema config > roundsman.schema.json",
        "roundsman schema events",
    ),
    "run": (
        "roundsman run",
        "roundsman run -c all.toml",
    ),
    "once": ("roundsman once --now",),
    "poll": (
        "roundsman poll front-doors",
        "roundsman poll front-doors --since 1h -n 5",
        "roundsman poll orders --trace       # with each request and its answer",
    ),
    "demo": (
        "roundsman demo                      # until Ctrl-C",
        "roundsman demo --for 12s",
    ),
    "status": (
        "roundsman status",
        "roundsman status --watch            # again each second",
        "roundsman status --json",
    ),
    "events": (
        "roundsman events -n 5",
        "roundsman events -f                 # go on with new events",
        "roundsman events --since 2h --outcome failed --outcome partial",
        "roundsman events --type 'roundsman.*' --json",
    ),
    "events show": ("roundsman events show 1",),
    "unread": (
        "roundsman unread front-doors",
        "roundsman unread front-doors --json # with their content",
    ),
    "healthy": ("roundsman healthy",),
    "page": ("roundsman page",),
    "doctor": (
        "roundsman doctor",
        "roundsman doctor --bundle roundsman-doctor.tar.gz",
    ),
    "reload": (
        "roundsman reload --dry-run          # only show what would change",
        "roundsman reload",
    ),
    "replay": (
        "roundsman replay archive --from beginning",
        "roundsman replay archive --from 2h",
    ),
    "rewind": (
        "roundsman rewind front-doors --to 2h",
        "roundsman rewind front-doors --accept",
    ),
    "track": ("roundsman track keys 91653ad818",),
    "pause": (
        "roundsman pause front-doors",
        "roundsman pause crm --by anna",
    ),
    "resume": ("roundsman resume crm",),
    "backup": ("roundsman backup /var/backups/roundsman.db --force",),
    "restore": ("roundsman restore /var/backups/roundsman.db --force",),
    "store": ("roundsman store copy /var/lib/roundsman/roundsman.db new.toml",),
    "store copy": ("roundsman store copy /var/lib/roundsman/roundsman.db new.toml",),
    "forget": (
        "roundsman forget anna.berg@example.org --dry-run",
        "roundsman forget anna.berg@example.org --yes",
        "roundsman forget u4711 --source front-doors --yes",
    ),
    "notify-test": ("roundsman notify-test oncall",),
    "new": (
        "roundsman new source acme.orders",
        "roundsman new sink acme.chat",
    ),
    "plugins": ("roundsman plugins",),
    "sandbox": ("roundsman sandbox --port 8399",),
    "help": (
        "roundsman help                      # list the pages",
        "roundsman help gap",
    ),
    "failures": (
        "roundsman failures",
        "roundsman failures --since 24h --json",
        "roundsman failures done 9-12        # mark these as done",
    ),
    "failures done": (
        "roundsman failures done 9-12",
        "roundsman failures done 833 --by anna --note Called",
    ),
    "failures undo": ("roundsman failures undo 833",),
    "failures log": ("roundsman failures log -n 1",),
    "dead": (
        "roundsman dead list crm",
        "roundsman dead retry crm            # all of them",
    ),
    "dead list": ("roundsman dead list crm",),
    "dead retry": (
        "roundsman dead retry crm            # all of them",
        "roundsman dead retry crm 180",
    ),
    "dead drop": (
        "roundsman dead drop crm 180",
        "roundsman dead drop crm --all",
    ),
    "hooks": (
        "roundsman hooks list newsletter",
        "roundsman hooks test newsletter --url https://hooks.example.org",
    ),
    "hooks list": ("roundsman hooks list newsletter",),
    "hooks create": ("roundsman hooks create newsletter --url https://hooks.example.org/roundsman",),
    "hooks delete": ("roundsman hooks delete newsletter 5596bdddde",),
    "hooks test": ("roundsman hooks test newsletter --url https://hooks.example.org",),
    "hooks unread": ("roundsman hooks unread front-doors",),
    "service": (
        "roundsman service show",
        "roundsman service install",
    ),
    "service show": ("roundsman service show",),
    "service install": (
        "roundsman service install",
        "roundsman service install --user    # a service of your own",
    ),
}
"""By command, as a reader types them; behind two blanks and `#` is what a line does."""
