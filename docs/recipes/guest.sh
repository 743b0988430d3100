#!/bin/sh
# Ask the guest API of LXD, Incus or devlxd from inside a container, with curl.
#
#     guest.sh read            print each key and its value
#     guest.sh wait KEY        wait until a key exists, and print its value
#     guest.sh follow          print the configuration, and then what changes
#
# Without jq, so an event is only taken apart if nothing in it is escaped.
sock=${DEVLXD_SOCKET:-/dev/lxd/sock}

# get PATH prints a body. It fails on 4xx, and tries again on 500 and while the
# server restarts. A proxy of the environment must not get the request.
get() {
	pause=0.1
	while :; do
		code=$(curl -sS --noproxy '*' --unix-socket "$sock" -o "$dir/body" -w '%{http_code}' "http://lxd$1" 2>/dev/null)
		case $code in
		200) cat "$dir/body" && return ;;
		4*) return 1 ;;
		esac
		sleep $pause
		pause=1
	done
}

# keys prints the names of the keys, one a line. Names with a quote, a backslash
# or a slash are beyond this recipe.
keys() { get /1.0/config | tr -d '[]"\n' | tr ',' '\n' | sed 's|^/1.0/config/||; /^$/d'; }

read_all() {
	keys >"$dir/keys"
	while read -r key || [ -n "$key" ]; do
		value=$(get "/1.0/config/$key") && echo "$1$key $value"
	done <"$dir/keys"
}

# stream TYPES SYNC EVENT calls SYNC when a subscription stands and what was
# before it is not known, and EVENT LINE for each event, until one of them fails.
stream() {
	since=
	mkfifo "$dir/events"
	while :; do
		# -D: the head comes before the events, and says where they begin. -i would keep it back until the first of them.
		curl -sN -D "$dir/events" --noproxy '*' --unix-socket "$sock" "http://lxd/1.0/events?type=$1&position=true${since:+&since=$since}" >"$dir/events" 2>/dev/null &
		curl=$!
		status='' start='' body=
		while IFS= read -r line; do
			case $body$line in
			HTTP/1.1*) status=${line#* } status=${status%% *} ;;
			[Dd]evlxd-[Pp]osition:*) start=$(printf %s "${line#*: }" | tr -d '\r') ;;
			"$cr")
				body=yes
				[ "$status" = 200 ] || break
				[ -n "$since" ] && [ -n "$start" ] && continue
				since=$start
				$2 || { kill $curl; return; }
				;;
			yes*)
				# The position is the last member, and has nothing to escape.
				since=$(printf '%s\n' "$line" | sed -n 's/.*"position":"\([0-9a-f.]*\)"}$/\1/p')
				$3 "$line" || { kill $curl; return; }
				;;
			esac
		done <"$dir/events"
		kill $curl 2>/dev/null
		wait $curl 2>/dev/null
		case $status in
		410) since= ;; # too much has happened, or the server was restarted
		4*) echo "events: $status" >&2 && return 1 ;;
		*) sleep 0.2 ;;
		esac
	done
}

print_all() { read_all 'read '; }

print_change() {
	printf '%s\n' "$1" | sed 's/.*"key":"\(user\.[^"\\]*\)".*"value":"\([^"\\]*\)"}.*/changed \1 \2/'
}

# try_key fails when the key is there: then the waiting is over.
try_key() { ! value=$(get "/1.0/config/$wanted"); }

dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
trap 'exit 1' INT TERM
cr=$(printf '\r')
case $1 in
read) read_all '' ;;
wait)
	wanted=$2
	stream config try_key try_key
	echo "$value"
	;;
follow) stream config print_all print_change ;;
*) echo "use: guest.sh read | wait KEY | follow" >&2 && exit 2 ;;
esac
