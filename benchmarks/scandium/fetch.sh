#!/bin/sh
# Puts Californium (the CoAP under Leshan) with what a server here needs beside it into a folder outside the clone, by Maven
# and from wherever this machine's Maven gets its artifacts; then compiles that server against it. Prints the Java class
# path. What was fetched once is used again without a network. The word: RdServer (with Scandium, for DTLS), or
# OscoreServer and TlsServer, whose modules end with an older version.
set -u

program=${1:-RdServer}
case $program in
OscoreServer) version=3.9.1 module=cf-oscore ;;
TlsServer) version=3.9.1 module=element-connector-tcp-netty ;;
*) version=4.0.0-M6 module=scandium ;;
esac
folder=$(dirname "$0")
target=${XDG_CACHE_HOME:-$HOME/.cache}/stellwerk-interop/$module-$version
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
      <artifactId>$module</artifactId>
      <version>$version</version>
    </dependency>
  </dependencies>
</project>
POM
    if ! mvn -q -B -f "$target/pom.xml" dependency:copy-dependencies -DincludeScope=runtime -DoutputDirectory=. \
        >"$target/maven.log" 2>&1 </dev/null; then
        tail -n 5 "$target/maven.log"
        echo "Maven could not fetch californium $version with $module ($target/maven.log)"
        exit 1
    fi
    touch "$target/.complete"
fi

if [ ! "$target/classes/$program.class" -nt "$folder/$program.java" ] || [ ! "$target/classes/Rd.class" -nt "$folder/Rd.java" ]; then
    javac -nowarn -cp "$target/*" -d "$target/classes" "$folder/$program.java" "$folder/Rd.java" >"$target/javac.log" 2>&1 || {
        tail -n 20 "$target/javac.log"
        echo "$folder/$program.java does not compile ($target/javac.log)"
        exit 1
    }
fi
echo "$target/*:$target/classes"
