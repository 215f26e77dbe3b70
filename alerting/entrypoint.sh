#!/bin/sh
# Starts Alertmanager with the receivers that the environment switches on, for the compose stack and without Docker.
#
#   SLACK_WEBHOOK_URL   Slack incoming webhook              SLACK_CHANNEL   default #tesseract-alerts
#   PAGERDUTY_KEY       Events API v2 integration key       PAGERDUTY_URL   default https://events.pagerduty.com/v2/enqueue
#   ALERT_WEBHOOK_URL   receives every alert as JSON        HEARTBEAT_URL   receives the watchdog once a minute
#   ALERTMANAGER_URL    where people reach Alertmanager, for the links in messages; default http://localhost:9093
#
# Each of the four with a secret may also come as a file, NAME_FILE, or as the compose secret of its name in lower case;
# the variable wins. A receiver of which nothing is set is left out. Secrets go into files under ALERTMANAGER_RUN_DIR (default
# /run/alertmanager, a tmpfs in the compose stack) that only this user can read: never into an argument, the log or the
# environment of Alertmanager. All arguments are handed on to Alertmanager (ALERTMANAGER_BIN, default `alertmanager`).
set -eu

here=$(CDPATH='' cd -- "$(dirname -- "$0")" && pwd)
run=${ALERTMANAGER_RUN_DIR:-/run/alertmanager}

fail() {
  echo "alertmanager: $1" >&2
  exit 1
}

# The value of the variable whose name is given; empty when it is not set.
value_of() {
  eval "printf '%s' \"\${$1-}\""
}

# Sets the variable whose name is given from its file, where it has one. A file may end with a line break.
read_secret() {
  [ -z "$(value_of "$1")" ] || return 0
  file=$(value_of "$1_FILE")
  if [ -z "$file" ]; then
    file=/run/secrets/$(printf '%s' "$1" | tr '[:upper:]' '[:lower:]')
    [ -e "$file" ] || return 0
  fi
  secret=$(cat "$file") || fail "$1_FILE cannot be read by uid $(id -u)"
  eval "$1=\$secret"
}

# As a YAML scalar in single quotes.
quoted() {
  rest=$1 done=
  while :; do
    case $rest in
      *\'*) done="$done${rest%%\'*}''" rest=${rest#*\'} ;;
      *) break ;;
    esac
  done
  printf "'%s'" "$done$rest"
}

# alertmanager.yml without what is switched off, with the values of the environment and the paths of this place.
generate() {
  skip=
  while IFS= read -r line; do
    case $line in
      '#'*) continue ;;
      *'# if '*)
        [ -n "$(value_of "${line##*# if }")" ] || skip=yes
        continue
        ;;
      *'# end')
        skip=
        continue
        ;;
    esac
    [ -z "$skip" ] || continue
    case $line in
      *'  # from '*)
        value=$(value_of "${line##*# from }")
        [ -z "$value" ] || line="${line%%: *}: $(quoted "$value")"
        ;;
      *' templates/'*) line="${line%%templates/*}$(quoted "$here/templates/${line#*templates/}")" ;;
      *' /run/alertmanager/'*) line="${line%%/run/alertmanager/*}$(quoted "$run/${line#*/run/alertmanager/}")" ;;
    esac
    printf '%s\n' "$line"
  done
}

for name in SLACK_WEBHOOK_URL PAGERDUTY_KEY ALERT_WEBHOOK_URL HEARTBEAT_URL; do
  read_secret "$name"
done
on='' off=''
for name in SLACK_WEBHOOK_URL PAGERDUTY_KEY ALERT_WEBHOOK_URL HEARTBEAT_URL; do
  if [ -n "$(value_of "$name")" ]; then on="$on $name"; else off="$off $name"; fi
done
for name in SLACK_WEBHOOK_URL PAGERDUTY_URL ALERT_WEBHOOK_URL HEARTBEAT_URL; do
  case $(value_of "$name") in
    '' | http://?* | https://?*) ;;
    *) fail "$name does not begin with http:// or https://" ;;
  esac
done

mkdir -p "$run" || fail "cannot create $run"
(
  umask 077
  rm -f "$run/alertmanager.yml" "$run/slack_webhook_url" "$run/pagerduty_key"
  [ -z "${SLACK_WEBHOOK_URL-}" ] || printf '%s' "$SLACK_WEBHOOK_URL" >"$run/slack_webhook_url"
  [ -z "${PAGERDUTY_KEY-}" ] || printf '%s' "$PAGERDUTY_KEY" >"$run/pagerduty_key"
  generate <"$here/alertmanager.yml" >"$run/alertmanager.yml"
)
echo "alertmanager: receivers switched on by:${on:- nothing}; not set:${off:- nothing}" >&2

external=${ALERTMANAGER_URL:-http://localhost:9093}
unset SLACK_WEBHOOK_URL PAGERDUTY_KEY ALERT_WEBHOOK_URL HEARTBEAT_URL
exec "${ALERTMANAGER_BIN:-alertmanager}" --config.file="$run/alertmanager.yml" \
  --web.external-url="$external" --web.route-prefix=/ "$@"
