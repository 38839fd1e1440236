#!/bin/sh
# Puts Leshan's client (the library under its demo client) with everything it needs into a folder outside the clone, by
# Maven and from wherever this machine's Maven gets its artifacts; then compiles the programs beside this script against it.
# Prints the Java class path. What was fetched once is used again without a network.
# Maven Central has the libraries of 2.0.0-M18, but no demo client and no 2.0.0-M17. OSCORE is in a library of its own since
# 2.0.0-M16, which is not there in M18, as is Californium's in the version that M18 uses: with the word "oscore" it is
# 2.0.0-M14, which has both, and the programs in oscore/.
set -u

version=2.0.0-M18
artifacts='leshan-lwm2m-client leshan-tl-cf-client-coap'
sources=$(dirname "$0")
if [ "${1:-}" = oscore ]; then
    version=2.0.0-M14
    artifacts=leshan-client-cf
    sources=$sources/oscore
fi
target=${XDG_CACHE_HOME:-$HOME/.cache}/stellwerk-interop/leshan-$version
command -v javac >/dev/null 2>&1 || { echo 'no Java compiler (javac) on this machine'; exit 1; }

if [ ! -f "$target/.complete" ]; then
    command -v mvn >/dev/null 2>&1 || { echo 'no Maven (mvn) on this machine'; exit 1; }
    mkdir -p "$target"
    {
        cat <<POM
<project xmlns="http://maven.apache.org/POM/4.0.0">
  <modelVersion>4.0.0</modelVersion>
  <groupId>stellwerk</groupId>
  <artifactId>interop</artifactId>
  <version>1</version>
  <dependencies>
POM
        for artifact in $artifacts; do
            cat <<POM
    <dependency>
      <groupId>org.eclipse.leshan</groupId>
      <artifactId>$artifact</artifactId>
      <version>$version</version>
    </dependency>
POM
        done
        echo '  </dependencies>'
        echo '</project>'
    } >"$target/pom.xml"
    if ! mvn -q -B -f "$target/pom.xml" dependency:copy-dependencies -DincludeScope=runtime -DoutputDirectory=. \
        >"$target/maven.log" 2>&1 </dev/null; then
        tail -n 5 "$target/maven.log"
        echo "Maven could not fetch Leshan $version ($target/maven.log)"
        exit 1
    fi
    touch "$target/.complete"
fi

for source in "$sources"/*.java; do
    [ ! "$target/classes/$(basename "$source" .java).class" -nt "$source" ] || continue
    javac -nowarn -cp "$target/*" -d "$target/classes" "$source" >"$target/javac.log" 2>&1 || {
        tail -n 5 "$target/javac.log"
        echo "$source does not compile ($target/javac.log)"
        exit 1
    }
done
echo "$target/*:$target/classes"
