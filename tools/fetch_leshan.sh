#!/bin/sh
# Puts Leshan's demo client with everything it needs into build/leshan/*.jar, by Maven and from wherever this machine's
# Maven gets its artifacts. Run it with: java -cp 'build/leshan/*' org.eclipse.leshan.client.demo.LeshanClientDemo --help
set -u

version=2.0.0-M17
target=build/leshan
[ -f "$target/.complete-$version" ] && exit 0
command -v mvn >/dev/null 2>&1 || { echo 'leshan: no Maven (mvn) on this machine'; exit 1; }

mkdir -p "$target"
cat >"$target/pom.xml" <<POM
<project xmlns="http://maven.apache.org/POM/4.0.0">
  <modelVersion>4.0.0</modelVersion>
  <groupId>stellwerk</groupId>
  <artifactId>interop</artifactId>
  <version>1</version>
  <dependencies>
    <dependency>
      <groupId>org.eclipse.leshan</groupId>
      <artifactId>leshan-demo-client</artifactId>
      <version>$version</version>
    </dependency>
  </dependencies>
</project>
POM
if mvn -q -B -f "$target/pom.xml" dependency:copy-dependencies -DincludeScope=runtime -DoutputDirectory=. \
    >"$target/maven.log" 2>&1 </dev/null; then
    touch "$target/.complete-$version"
else
    tail -n 5 "$target/maven.log"
    echo "leshan: Maven could not fetch leshan-demo-client $version ($target/maven.log)"
    exit 1
fi
