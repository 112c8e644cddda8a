"""Where each command line of the documentation is run.

A line that is in none of these tables is run by tests/docs/test_commands.py.
"""

BOOTED: dict[str, tuple[str, ...]] = {
    "look": (
        "systemctl is-active roundsman",
        "systemctl status roundsman",
        "journalctl -t roundsman -f -o cat",
        "journalctl -u roundsman -f -o cat",
        "journalctl -t roundsman -o cat -p warning --since -1h",
        "journalctl -t roundsman -p err -o cat --since -1h",
        "journalctl -t roundsman -o cat | jq 'select(.event)'",
        "journalctl -t roundsman -o cat | jq 'select(.specversion)'",
        "systemd-analyze security",
        "timedatectl",
    ),
    "change": (
        "systemctl reload roundsman",
        "roundsman check && systemctl restart roundsman",
        "systemctl restart roundsman",
    ),
    "secrets": (
        "(umask 077; cat > /etc/roundsman/credentials/mailchimp)",
        "(umask 077; python3 -c 'import secrets; print(secrets.token_urlsafe(24))' > /etc/roundsman/credentials/mailchimp-hook-token)",
        "(umask 077; cat > /etc/roundsman/credentials/mailchimp-hook-secret)",
        "(umask 077; python3 -c 'import secrets; print(\"Bearer \" + secrets.token_urlsafe(24))' > /etc/roundsman/credentials/parakey-hook)",
        "(umask 077; python3 -c 'import secrets; print(secrets.token_urlsafe(24))' > /etc/roundsman/credentials/railz-hook-token)",
        "(umask 077; cat > /etc/roundsman/credentials/railz-hook-secret)",
        "python3 -c 'import base64, secrets; print(\"whsec_\" + base64.b64encode(secrets.token_bytes(32)).decode())'",
        "(umask 077; python3 -c 'import secrets; print(secrets.token_urlsafe(18))' > /etc/roundsman/credentials/page-password)",
        "systemctl restart roundsman",
    ),
    "backup": (
        "roundsman backup /var/backups/roundsman.db",
        "systemctl stop roundsman",
        "df -h /var/lib/private/roundsman",
        "du -xh --max-depth=1 /var/lib/private/roundsman | sort -h",
        "du -xh --max-depth=2 / | sort -h | tail",
        "cp -a /var/lib/private/roundsman /root/roundsman-damaged",
        "roundsman restore /var/backups/roundsman.db --force",
        "systemctl start roundsman",
    ),
    "upgrade": (
        "(umask 022; python3 -m venv /opt/roundsman && /opt/roundsman/bin/pip install .) && ln -sf /opt/roundsman/bin/roundsman /usr/local/bin/",
        "roundsman service install",
        "systemctl restart roundsman",
    ),
}
"""By tests/systemd/test_guide.py in a booted Debian, as root, each group from top to bottom."""

PLUGIN = "/opt/roundsman/bin/pip install --no-deps ./your-package"
FOLDER = "groupadd events; install -d -g events -m 2770 /srv/events"
SOCKET = (
    "roundsman service install --socket",
    "systemctl stop roundsman.socket roundsman",
    "systemctl disable --now roundsman.socket roundsman",
)
USER = (
    "export XDG_RUNTIME_DIR=/run/user/$(id -u)",
    "roundsman init --user",
    "roundsman service install --user",
    "systemctl --user enable --now roundsman",
)
INSTALLED = (
    "roundsman init --service",
    "(umask 077; cat > /etc/roundsman/credentials/parakey)",
    "systemctl enable --now roundsman",
    "systemctl disable --now roundsman",
    "rm -rf /etc/systemd/system/roundsman.{service,socket}{,.d} /opt/roundsman /usr/local/bin/roundsman",
    "rm -rf /etc/roundsman /var/lib/private/roundsman /var/lib/roundsman /etc/cron.d/roundsman",
    "systemctl daemon-reload",
    "0 3 * * * root /usr/local/bin/roundsman backup -c /etc/roundsman/roundsman.toml --force /var/backups/roundsman.db >/dev/null",
    "*/5 * * * * root /usr/local/bin/roundsman healthy -c /etc/roundsman/roundsman.toml >/dev/null",
    "make deb && apt install ./dist/roundsman_*.deb",
)
"""By other tests in tests/systemd, which read them from the guide."""

UNPACKED = (
    "(umask 022; python3 -m zipfile -e your_package-1.0-py3-none-any.whl /usr/local/lib/roundsman/plugins)"
)
"""By tests/systemd/test_deb.py."""

PIPX = ("pipx install .", "pipx install --force .")
UNINSTALLED = (
    "pipx uninstall roundsman",
    "PIPX_HOME=/opt/pipx PIPX_BIN_DIR=/usr/local/bin pipx uninstall roundsman",
)
PIPX_FOR_ALL = "(umask 022; PIPX_HOME=/opt/pipx PIPX_BIN_DIR=/usr/local/bin pipx install --force .)"
"""By tests/systemd/test_pipx.py."""

ON_A_MACHINE = {
    *(line for lines in BOOTED.values() for line in lines),
    PLUGIN,
    UNPACKED,
    FOLDER,
    *SOCKET,
    *USER,
    *INSTALLED,
    *PIPX,
    *UNINSTALLED,
    PIPX_FOR_ALL,
}
"""Lines that tests/systemd runs."""

FIRST_EVENT = (
    "roundsman run",
    "roundsman run -c all.toml",
    "roundsman failures done 833 -c all.toml",
    "roundsman hooks create newsletter -c all.toml --url http://127.0.0.1:8377",
    "roundsman track keys 91653ad818 -c all.toml",
)
"""By tests/docs/test_first_event.py, which follows that page and the README."""

NOT_RUN = {
    "python docs/tools/screenshot.py": "it takes minutes, and changes a file of the repository",
    "pipx install '.[notify]'": "pipx needs a package index",
    "/opt/roundsman/bin/pip install '.[notify]'": "pip needs a package index",
    "(umask 022; python3 -m pip install --target /usr/local/lib/roundsman/plugins 'apprise>=2.3')": "the system of tests/systemd has no python3-pip",
    "pipx install '.[postgres]'": "pipx needs a package index",
    "pipx inject roundsman 'psycopg[binary]'": "pipx needs a package index",
    "/opt/roundsman/bin/pip install '.[postgres]'": "pip needs a package index",
    "(umask 022; python3 -m pip install --target /usr/local/lib/roundsman/plugins 'psycopg[binary]>=3.2')": "the system of tests/systemd has no python3-pip",
    "roundsman notify-test SINK": "it sends a message; tests/sinks/test_notify.py runs it with receivers of its own",
    "roundsman notify-test oncall": "it sends a message; tests/sinks/test_notify.py runs it with receivers of its own",
    "roundsman store copy /var/lib/roundsman/roundsman.db new.toml": "it needs a server; tests/test_postgres.py copies a store",
    "pipx install ./roundsman-*.whl": "pipx needs a package index",
    "sha256sum --check --ignore-missing SHA256SUMS": "make dist writes the file, and needs a package index",
    "(cd dist && sha256sum --check /path/to/the/released/SHA256SUMS)": "the file is the one of the release",
    "jq -r '.components[] | \"\\(.name) \\(.version)\"' roundsman-*.whl.cdx.json": "make dist writes the file, and needs a package index",
    "python3 -m venv venv && venv/bin/pip install --constraint constraints.txt ./roundsman-*.whl": "pip needs a package index",
    "pipx inject roundsman ./your-package": "pipx needs a package index",
    "pip install --editable './roundsman-acme-orders[test]'": "pip needs a package index",
    "python3 -m venv venv && venv/bin/pip install .": "pip needs a package index; tests/systemd installs from one",
    "(umask 022; python3 -m pip install --no-deps --upgrade --target /usr/local/lib/roundsman/plugins ./your-package)": "the system of tests/systemd has no python3-pip",
    "apt install python3-pip": "the system of tests/systemd has no index of packages",
    "pip wheel --no-deps ./your-package": "tests/systemd/test_deb.py runs it in a virtual environment",
    "venv/bin/roundsman check -c /etc/roundsman/roundsman.toml": "as `roundsman check`, in an environment that pip made",
    "make deb && apt install --allow-downgrades ./dist/roundsman_0.4.0_*.deb": "tests/systemd/test_deb.py installs that package",
    "systemctl --user restart roundsman": "tests/systemd/test_booted.py starts the service of a user",
    "python tests/compatibility.py": "it changes a file of the repository; tests/test_compatibility.py calls its functions",
    "apt purge": "the name of a command",
    "apt purge roundsman": "it asks; tests/systemd/test_deb.py runs it with --yes",
    "systemctl edit roundsman": "it opens an editor; tests/systemd writes the file",
    "systemctl edit roundsman.socket": "it opens an editor; tests/systemd writes the file",
    "timedatectl set-ntp true": "it changes the clock of the machine",
    "loginctl enable-linger": "it needs a login session; tests/systemd/test_booted.py runs it for a user",
    "curl -v https://HOST/": "HOST is the vendor's",
    "roundsman events -n 1 --json | /usr/local/bin/ring-bell --all; echo $?": "tests/docs/test_pages_of_sinks.py runs the program",
    "python3 receiver.py": "its port is fixed; tests/docs/test_examples.py serves the class on another",
    "podman build --format docker -t localhost/roundsman .": "tests/containers.py does, with a base of its own",
    "docker build -f Containerfile -t localhost/roundsman .": "there is no Docker; tests/containers.py builds with Podman",
    "chown -R 10001 config && chmod 400 config/parakey.secret": "tests/container/test_image.py gives the token to this user",
    "podman run --rm -v ./config:/etc/roundsman:ro localhost/roundsman check": "tests/container/test_image.py runs it",
    "podman run -d --name roundsman --init --read-only --tmpfs /tmp --cap-drop all --restart always -v roundsman:/var/lib/roundsman -v ./config:/etc/roundsman:ro localhost/roundsman": "tests/container/test_image.py runs it",
    "install -d -m 700 compose/secrets": "tests/container/test_compose.py runs these lines",
    "python3 -c 'import secrets; print(secrets.token_urlsafe(24))' > compose/secrets/db-password": "as the line before",
    'echo "postgresql://roundsman:$(cat compose/secrets/db-password)@db/roundsman?sslmode=disable" > compose/secrets/store': "as the line before",
    "chown -R 10001 compose/secrets": "as the line before",
    "chmod 400 compose/secrets/*": "as the line before",
    "echo HOOKS_HOST=hooks.example.org > .env": "it needs Docker",
    "docker compose up -d": "it needs Docker",
    "systemctl enable podman-restart": "a unit of Podman",
    "smartctl -a /dev/DISK": "DISK is a disk of the reader's",
}
"""Lines that no test runs, with the reason. Those of `roundsman` are parsed all the same."""

ELSEWHERE = {*ON_A_MACHINE, *FIRST_EVENT, *NOT_RUN}
"""Lines that tests/docs/test_commands.py does not run."""

FAMILIES = {
    r"make (?!deb).*": "they take minutes, or run this test; that the targets exist is tested",
    r"\.venv/bin/python -m pytest .*": "it runs tests; that the files exist is tested",
    r"(python -m roundsman\.|roundsman )sandbox( .*)?": "tests/docs/test_first_event.py runs them",
    r"systemctl (start|stop|restart|reload|edit)": "the name of a command",
}
"""Forms of lines that tests/docs/test_commands.py does not run, with the reason."""

PHASES = (
    r"",
    r"^curl ",
    r"hooks create newsletter .*example\.org$",
    r"hooks list",
    r"hooks delete",
    r"hooks create newsletter .*/roundsman$",
    r"\btrack\b",
    r"\bdone\b",
    r"\bfailures (log|undo)\b",
    r"\breplay\b",
    r"\bdead drop crm 180",
    r"\bdead retry crm 180",
    r"\bdead retry (SINK|crm$|warehouse)",
    r"\bdead drop crm --all",
    r"\bunread\b.*--drop",
    r"\breload\b",
    r"\brewind\b(?!.*--accept)",
    r"\brewind\b",
    r"\bbackup\b",
    r"\bonce\b|\brun \|",
    r"\brestore\b",
    r"echo \$\?",
)
"""The order of the lines that tests/docs/test_commands.py runs: what changes the store comes later."""

STOPPED = r"\bonce\b|\brun \||\brestore\b|echo \$\?"
"""The daemon does not run while these are typed."""

STATUS = {
    "roundsman dead drop SINK": 2,  # it asks which ones
}
"""Exit statuses other than 0."""

UNTIL_STOPPED = {
    "roundsman demo": "front-doors",
    "roundsman events -f": "front-doors",
    "roundsman status --watch": "front-doors",
    "tail -F events.jsonl": "specversion",
}
"""Lines that run until Ctrl-C, and what they have printed by then."""

SHOWN_ELSEWHERE = {
    "roundsman check": "tests/docs/test_first_account.py",
    "roundsman check --live": "tests/docs/test_first_event.py",
    "roundsman status | cat": "tests/docs/test_first_event.py",
    "roundsman reload": "tests/systemd/test_guide.py",
    "roundsman hooks create front-doors --url https://hooks.example.org --reveal": "another header",
    "roundsman poll front-doors --trace": "the page has the first visit",
    "roundsman plugins": "another version",
    "roundsman events -n 3": "names of people",
    "roundsman failures": "names of people",
    "roundsman failures -c all.toml -n 2": "names of people",
}
"""Lines whose output on the page is compared elsewhere, or differs in more than values."""
