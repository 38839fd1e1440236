#!/bin/sh
# Puts Californium with Scandium (the CoAP and DTLS under Leshan) into a folder outside the clone, by Maven and from
# wherever this machine's Maven gets its artifacts; then compiles RdServer.java against them. Prints the Java class path.
# What was fetched once is used again without a network.
set -u

version=4.0.0-M6
source=$(dirname "$0")/RdServer.java
target=${XDG_CACHE_HOME:-$HOME/.cache}/stellwerk-interop/californium-$version
command -v javac >/dev/null 2>&1 || { echo 'no Java compiler (javac) on this machine'; exit 1; }

if [ ! -f "$target/.complete" ]; then
    command -v mvn >/dev/null 2>&1 || { echo 'no Maven (mvn) on this machine'; exit 1; }
    mkdir -p "$target"
    cat >"$target/pom.xml" <<POM
<project xmlns="http://maven.apache.org/POM/4.0.0">
  <modelVersion>4.0.0</modelVersion>
  <groupId>stellwerk</groupId>
  <artifactId>benchmark</artifactId>
  <version>1</version>
  <dependencies>
    <dependency>
      <groupId>org.eclipse.californium</groupId>
      <artifactId>californium-core</artifactId>
      <version>$version</version>
    </dependency>
    <dependency>
      <groupId>org.eclipse.californium</groupId>
      <artifactId>scandium</artifactId>
      <version>$version</version>
    </dependency>
  </dependencies>
</project>
POM
    if ! mvn -q -B -f "$target/pom.xml" dependency:copy-dependencies -DincludeScope=runtime -DoutputDirectory=. \
        >"$target/maven.log" 2>&1 </dev/null; then
        tail -n 5 "$target/maven.log"
        echo "Maven could not fetch californium $version ($target/maven.log)"
        exit 1
    fi
    touch "$target/.complete"
fi

if [ ! "$target/classes/RdServer.class" -nt "$source" ]; then
    javac -nowarn -cp "$target/*" -d "$target/classes" "$source" >"$target/javac.log" 2>&1 || {
        tail -n 20 "$target/javac.log"
        echo "$source does not compile ($target/javac.log)"
        exit 1
    }
fi
echo "$target/*:$target/classes"
