"""The HTML of the page, from values."""

from html import escape

_HEAD = '<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>Roundsman</title></head>\n'


def login(target: str, *, by_token: bool, problem: str = "") -> str:
    """The form to log in with. Its fields: `user`, `secret`, and `next`, where to go on to (a path of the page)."""
    user = "" if by_token else '<label>User <input name="user" autocomplete="username" required></label>\n'
    noun = "Token" if by_token else "Password"
    said = f'<p role="alert">{escape(problem)}</p>\n' if problem else ""
    return (
        f'{_HEAD}<body><main><h1>Roundsman</h1>\n{said}<form method="post" action="/login">\n{user}'
        f'<label>{noun} <input name="secret" type="password" autocomplete="current-password" required></label>\n'
        f'<input type="hidden" name="next" value="{escape(target)}"><button>Log in</button></form></main></body></html>\n'
    )


def home(user: str, form_token: str) -> str:
    """The first page. `form_token`: in each form, in a field of that name."""
    return (
        f"{_HEAD}<body><main><h1>Roundsman</h1><p>{escape(user)}</p>\n"
        f'<form method="post" action="/logout"><input type="hidden" name="form_token" value="{escape(form_token)}">'
        "<button>Log out</button></form></main></body></html>\n"
    )
