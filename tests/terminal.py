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
        "systemd-analyze security roundsman",
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
        "roundsman status",
    ),
    "upgrade": (
        "(umask 022; python3 -m venv /opt/roundsman && /opt/roundsman/bin/pip install .) && ln -sf /opt/roundsman/bin/roundsman /usr/local/bin/",
        "roundsman service install",
        "systemctl restart roundsman",
    ),
}
"""By tests/systemd/test_guide.py in a booted Debian, as root, each group from top to bottom."""

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
    "make deb && apt install ./dist/roundsman_*.deb",
)
"""By other tests in tests/systemd, which read them from the guide."""

ON_A_MACHINE = {*(line for lines in BOOTED.values() for line in lines), FOLDER, *SOCKET, *USER, *INSTALLED}
"""Lines that tests/systemd runs."""
