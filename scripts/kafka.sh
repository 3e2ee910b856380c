#!/usr/bin/env bash
# A Kafka broker of one node for tests and trials: Kafka's own jars in one Java process, reachable from this machine
# only. Messages and errors go to standard error; the broker's log is kafka.log in its folder.
set -euo pipefail
scripts=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
source "$scripts/env.sh"
source "$scripts/lib.sh"

pom=$scripts/kafka-pom.xml
version=$(sed -n 's|.*<kafka.version>\(.*\)</kafka.version>.*|\1|p' "$pom")
# Named after all that is fetched, so that it need never be replaced under a running broker.
home=$perennial_cache/kafka/$version-$(sha256sum <"$pom" | head -c 8)
# What makes starts quick; see prepare.
prepared=$home.prepared
archive=-XX:SharedArchiveFile=$prepared/classes.jsa

usage() {
    cat >&2 <<'USAGE'
scripts/kafka.sh setup
    Fetches Kafka, and Java and Maven where they are missing. The other commands do so by themselves.
scripts/kafka.sh start [--dir DIR] [--port PORT] [--controller VOTER] [--scram 'SCRAM-SHA-256=[name=USER,password=PASSWORD]']
        [--link LISTEN:TOLD] [KEY=VALUE ...]
    Prints bootstrap.servers=127.0.0.1:PORT, then becomes the broker. DIR keeps its data (else a new folder does),
    PORT is a free one if it is 0 or not given, KEY=VALUE is any setting of brokers, and --scram adds a user to a new
    DIR. Clients are served by the listener CLIENT, and with --link by LINK at port LISTEN too, which are told that it is
    at port TOLD, where a proxy may be. The heap is KAFKA_HEAP (512m), and KAFKA_COMPILER=fast is for brokers that
    live for a minute. It is its own controller, unless VOTER is what a controller alone has printed.
scripts/kafka.sh controller [--dir DIR] [KEY=VALUE ...]
    Prints controller=ID@127.0.0.1:PORT, then becomes a controller alone.
scripts/kafka.sh run
    Runs a broker until Ctrl-C, at port 9092 if it is free, and removes its data.
scripts/kafka.sh topic HOST:PORT NAME PARTITIONS [KEY=VALUE ...]
    Creates a topic, with these settings.
USAGE
    exit 2
}

# --- Set-up ------------------------------------------------------------------------------------------------------

setup() {
    # In shells of their own, which take the lock and the trap with them.
    [[ -d $home ]] || (fetch)
    [[ -d $prepared ]] || (prepare)
}

fetch() {
    local missing=() temp
    lock "$perennial_cache/kafka.lock"
    [[ ! -d $home ]] || return 0
    have java || missing+=(default-jre-headless)
    have mvn || missing+=(maven)
    install_packages "${missing[@]}"
    [[ $(java -version 2>&1) =~ \"([0-9]+) && ${BASH_REMATCH[1]} -ge 17 ]] \
        || die "Kafka $version needs Java 17 or newer, and the java here is older. Install openjdk-17-jre-headless, or set JAVA_HOME."

    say "Fetching Kafka $version, about 45 MB."
    rm -rf "$home".new.* # what an interrupted run left
    mkdir -p "${home%/*}"
    temp=$(mktemp -d "$home.new.XXXXXX")
    # shellcheck disable=SC2064 # the path of now
    trap "rm -rf '$temp'" EXIT
    mvn -q --batch-mode --strict-checksums --file "$pom" \
        org.apache.maven.plugins:maven-dependency-plugin:3.8.1:copy-dependencies \
        -DincludeScope=runtime -DoutputDirectory="$temp/jars" >&2 \
        || die "Kafka could not be fetched; what Maven said is above."
    mv "$temp/jars" "$home"
}

# A broker's start is mostly the loading of classes and, in a new folder, a second Java that formats it. So both are
# done once, and kept: an archive of the loaded classes, which a Java of another version ignores, and the files of a
# formatted folder.
prepare() {
    local temp port voter broker
    lock "$perennial_cache/kafka.lock"
    [[ ! -d $prepared ]] || return 0
    say "Preparing Kafka for quick starts, some seconds."
    rm -rf "$prepared".new.*
    temp=$(mktemp -d "$prepared.new.XXXXXX")
    # shellcheck disable=SC2064 # the path of now
    trap "rm -rf '$temp'" EXIT
    port=$(free_port 0)
    voter=1@127.0.0.1:$(free_port 1)
    archive=-XX:ArchiveClassesAtExit=$temp/ready/classes.jsa
    mkdir -p "$temp/ready"
    settings "$temp" broker,controller 1 "CLIENT://127.0.0.1:$port,CONTROLLER://${voter#*@}" "$voter" \
        >"$temp/server.properties"
    echo inter.broker.listener.name=CLIENT >>"$temp/server.properties"
    format "$temp"
    cp "$temp"/data/{bootstrap.checkpoint,meta.properties} "$temp/ready"
    run_node "$temp" 2>/dev/null &
    broker=$!
    while is_free "$port"; do
        kill -0 "$broker" 2>/dev/null || die "The broker did not start: $(tail -n 1 "$temp/kafka.log")"
        sleep 0.1
    done
    kill "$broker"
    wait "$broker" || true # Java ends with the signal's number
    mv "$temp/ready" "$prepared"
}

# --- Broker ------------------------------------------------------------------------------------------------------

# run_java LOG ARGUMENTS ... becomes Java. Its standard output is not for callers.
run_java() {
    exec java -XX:+UseSerialGC "$archive" -Xlog:cds=off -Xlog:cds+dynamic=off -cp "$home/*" -Dkafka.log="$1" \
        -Dlog4j2.configurationFile="$scripts/kafka-log4j2.xml" "${@:2}" >&2
}

# run_node DIR becomes the broker or controller that the folder's settings describe.
run_node() {
    local compiler=()
    [[ ${KAFKA_COMPILER:-} != fast ]] || compiler=(-XX:TieredStopAtLevel=1)
    run_java "$1/kafka.log" -Xmx"${KAFKA_HEAP:-512m}" "${compiler[@]}" kafka.Kafka "$1/server.properties"
}

# For what ends soon, the fast compiler is enough.
run_tool() { run_java "$1" -Xmx256m -XX:TieredStopAtLevel=1 "${@:2}"; }

is_free() { ! (exec 3<>"/dev/tcp/127.0.0.1/$1") 2>/dev/null; }

# Brokers that start at the same time must not choose the same port. So each begins to look at a port that follows
# from its process, which no other has, and below those that the kernel gives to outgoing connections.
free_port() {
    local port=$((10000 + ($$ * 2 + $1) % 22000))
    until is_free "$port"; do port=$((port + 2)); done
    echo "$port"
}

# settings DIR ROLES ID LISTENERS VOTER
settings() {
    cat <<SETTINGS
process.roles=$2
node.id=$3
log.dirs=$1/data
auto.create.topics.enable=false

# The broker speaks to itself over INTERNAL, so that CLIENT may be given any protocol.
listeners=$4
listener.security.protocol.map=CLIENT:PLAINTEXT,INTERNAL:PLAINTEXT,CONTROLLER:PLAINTEXT
controller.listener.names=CONTROLLER
controller.quorum.voters=$5

# There is one node, and no need to spread load.
offsets.topic.replication.factor=1
offsets.topic.num.partitions=4
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
transaction.state.log.num.partitions=4
share.coordinator.state.topic.replication.factor=1
share.coordinator.state.topic.min.isr=1
share.coordinator.state.topic.num.partitions=4

# Nothing is worth waiting for: neither more members of a group, nor, after a kill, the end of the broker's session.
group.initial.rebalance.delay.ms=0
broker.session.timeout.ms=2000
broker.heartbeat.interval.ms=500

# By default a quarter of the heap.
log.cleaner.dedupe.buffer.size=4194304
SETTINGS
}

# format DIR [--add-scram USER ...]: the cluster's id is any 22 characters of base64.
format() {
    local dir=$1 said
    said=$(run_tool "$dir/kafka.log" kafka.tools.StorageTool format --ignore-formatted \
        --cluster-id perennial-single-nodeA --config "$dir/server.properties" "${@:2}" 2>&1) \
        || die "$dir could not be formatted: ${said%%$'\n\tat '*}"
}

start() {
    local dir='' port=0 voter='' link='' roles=broker listeners users=() own=(inter.broker.listener.name=INTERNAL)
    while [[ $# -gt 0 ]]; do
        case $1 in
            --dir | --port | --controller | --scram | --link) [[ $# -ge 2 ]] || usage ;;&
            --dir) dir=$2; shift ;;
            --port) port=$2; shift ;;
            --controller) voter=$2; shift ;;
            --scram) users+=(--add-scram "$2"); shift ;;
            --link) link=$2; shift ;;
            [a-z]*=*) own+=("$1") ;;
            *) usage ;;
        esac
        shift
    done
    [[ $port != 0 ]] || port=$(free_port 0)
    is_free "$port" || die "Port $port is taken."
    listeners=CLIENT://127.0.0.1:$port,INTERNAL://127.0.0.1:0
    if [[ -z $voter ]]; then
        roles=broker,controller
        voter=1@127.0.0.1:$(free_port 1)
        listeners+=,CONTROLLER://${voter#*@}
    fi
    [[ -z $link ]] || add_link
    open_dir
    # What comes last in the file holds.
    { settings "$dir" "$roles" 1 "$listeners" "$voter"; printf '\n%s' "${own[@]}"; echo; } >"$dir/server.properties"
    become "bootstrap.servers=127.0.0.1:$port"
}

# add_link adds the listener LINK to those that start has. Where what is told is not where a listener is, all of it has to be told.
add_link() {
    local internal
    until internal=$((32000 + RANDOM % 700)) && is_free "$internal"; do :; done
    listeners=${listeners/INTERNAL:\/\/127.0.0.1:0/INTERNAL:\/\/127.0.0.1:$internal},LINK://127.0.0.1:${link%:*}
    own+=(
        "listener.security.protocol.map=CLIENT:PLAINTEXT,INTERNAL:PLAINTEXT,CONTROLLER:PLAINTEXT,LINK:PLAINTEXT"
        "advertised.listeners=CLIENT://127.0.0.1:$port,INTERNAL://127.0.0.1:$internal,LINK://127.0.0.1:${link#*:}"
    )
}

controller() {
    local dir='' voter users=() own=()
    while [[ $# -gt 0 ]]; do
        case $1 in
            --dir) [[ $# -ge 2 ]] || usage; dir=$2; shift ;;
            [a-z]*=*) own+=("$1") ;;
            *) usage ;;
        esac
        shift
    done
    voter=100@127.0.0.1:$(free_port 1)
    open_dir
    { settings "$dir" controller 100 "CONTROLLER://${voter#*@}" "$voter"; printf '\n%s' "${own[@]}"; echo; } \
        >"$dir/server.properties"
    become "controller=$voter"
}

# open_dir makes the folder that the variable dir names, or a new one.
open_dir() {
    setup
    if [[ -z $dir ]]; then
        dir=$(mktemp -d -t perennial-kafka.XXXXXX)
        say "Data and log are in $dir."
    fi
    mkdir -p "$dir"
    dir=$(cd "$dir" && pwd)
}

# become LINE prints LINE and becomes the node that the folder's settings describe.
become() {
    # Formatting writes this file last.
    if [[ ! -f $dir/data/meta.properties ]]; then
        if [[ ${#users[@]} -gt 0 ]]; then format "$dir" "${users[@]}"; else copy_formatted; fi
    fi
    echo "$1"
    run_node "$dir"
}

# copy_formatted formats the folder as prepare did, for the node that its settings name.
copy_formatted() {
    local node
    node=$(sed -n 's/^node.id=//p' "$dir/server.properties" | tail -n 1)
    mkdir -p "$dir/data"
    cp "$prepared/bootstrap.checkpoint" "$dir/data/"
    sed "s/^node.id=.*/node.id=$node/" "$prepared/meta.properties" >"$dir/data/meta.properties.new"
    mv "$dir/data/meta.properties.new" "$dir/data/meta.properties"
}

run() {
    local port=9092
    setup
    if ! is_free 9092; then
        port=$(free_port 0)
        say "Port 9092 is taken, so this broker is at $port: what looks for it at 127.0.0.1:9092 will not find it."
    fi
    folder=$(mktemp -d -t perennial-kafka.XXXXXX)
    broker=
    trap stop EXIT
    trap 'exit 0' INT TERM HUP
    set -m # in a process group of its own, which Ctrl-C spares and stop ends whole
    # For a trial topics make themselves, with some partitions.
    start --dir "$folder" --port "$port" auto.create.topics.enable=true num.partitions=4 >/dev/null &
    broker=$!
    set +m
    while is_free "$port"; do
        kill -0 "$broker" 2>/dev/null || die "The broker did not start."
        sleep 0.1
    done
    say "Kafka $version is at 127.0.0.1:$port. Ctrl-C stops it and removes its data."
    wait "$broker"
}

stop() {
    trap '' INT TERM HUP
    [[ -z $broker ]] || kill -- "-$broker" 2>/dev/null || true
    wait
    rm -rf "$folder"
}

topic() {
    [[ $# -ge 3 ]] || usage
    local bootstrap=$1 name=$2 partitions=$3 setting own=()
    for setting in "${@:4}"; do own+=(--config "$setting"); done
    setup
    run_tool /dev/null org.apache.kafka.tools.TopicCommand --bootstrap-server "$bootstrap" \
        --create --topic "$name" --partitions "$partitions" "${own[@]}"
}

[[ -z ${JAVA_HOME:-} ]] || PATH=$JAVA_HOME/bin:$PATH
case ${1:-} in
    setup | run) [[ $# -eq 1 ]] || usage; "$1" ;;
    start | controller | topic) "$@" ;;
    *) usage ;;
esac
