"""What offlineimaprc's oauth2_access_token_eval calls."""
import subprocess


def token(account):
    """An access token that lasts for the run."""
    command = ["pizauth", "show", "--min-valid", "10m", "--", account]
    return subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout.strip()
