import java.io.BufferedReader;
import java.io.InputStreamReader;
import java.net.InetAddress;
import java.net.InetSocketAddress;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.security.KeyFactory;
import java.security.PrivateKey;
import java.security.PublicKey;
import java.security.cert.Certificate;
import java.security.cert.CertificateFactory;
import java.security.spec.PKCS8EncodedKeySpec;
import java.security.spec.X509EncodedKeySpec;
import java.util.Base64;
import java.util.HashMap;
import java.util.HexFormat;
import java.util.Map;
import java.util.concurrent.TimeUnit;
import org.eclipse.californium.elements.AddressEndpointContext;
import org.eclipse.californium.elements.DtlsEndpointContext;
import org.eclipse.californium.elements.EndpointContext;
import org.eclipse.californium.elements.MessageCallback;
import org.eclipse.californium.elements.RawData;
import org.eclipse.californium.elements.auth.RawPublicKeyIdentity;
import org.eclipse.californium.elements.config.CertificateAuthenticationMode;
import org.eclipse.californium.elements.config.Configuration;
import org.eclipse.californium.elements.config.SystemConfig;
import org.eclipse.californium.scandium.DTLSConnector;
import org.eclipse.californium.scandium.config.DtlsConfig;
import org.eclipse.californium.scandium.config.DtlsConfig.DtlsRole;
import org.eclipse.californium.scandium.config.DtlsConnectorConfig;
import org.eclipse.californium.scandium.dtls.CertificateType;
import org.eclipse.californium.scandium.dtls.cipher.CipherSuite;
import org.eclipse.californium.scandium.dtls.pskstore.SinglePskStore;
import org.eclipse.californium.scandium.dtls.x509.SingleCertificateProvider;
import org.eclipse.californium.scandium.dtls.x509.StaticCertificateVerifier;

/**
 * Scandium alone, as client or as a server that echoes. Arguments are NAME=VALUE: role (client, server), port (of the
 * server), mode (psk, rpk, x509), suite (as Scandium names it), cid (length of the connection ID it asks for; -1: none
 * at all), identity and key (hex) of psk, folder (of PEM files), own (which of them), limit (record size limit).
 *
 * <p>Says "session SUITE ID" for every handshake, "got TEXT", "error TEXT", and as a server "port N". Takes "send TEXT",
 * "resume TEXT" (a new, resumed handshake first) and "stop".
 */
public final class ScandiumPeer {

    private static synchronized void say(String line) {
        System.out.println(line);
        System.out.flush();
    }

    private static byte[] pem(Path file) throws Exception {
        String text = Files.readString(file).replaceAll("-----[A-Z ]+-----", "").replaceAll("\\s", "");
        return Base64.getDecoder().decode(text);
    }

    private static Certificate[] certificates(Path file) throws Exception {
        try (var stream = Files.newInputStream(file)) {
            return CertificateFactory.getInstance("X.509").generateCertificates(stream).toArray(new Certificate[0]);
        }
    }

    private static final class Told implements MessageCallback {
        @Override
        public void onConnecting() {}

        @Override
        public void onDtlsRetransmission(int flight) {
            say("retransmitted flight " + flight);
        }

        @Override
        public void onContextEstablished(EndpointContext context) {
            say("context " + context.get(DtlsEndpointContext.KEY_CIPHER) + " session "
                    + context.get(DtlsEndpointContext.KEY_SESSION_ID) + " read cid "
                    + context.get(DtlsEndpointContext.KEY_READ_CONNECTION_ID) + " write cid "
                    + context.get(DtlsEndpointContext.KEY_WRITE_CONNECTION_ID));
        }

        @Override
        public void onSent() {}

        @Override
        public void onError(Throwable error) {
            say("error " + error);
        }
    }

    public static void main(String[] arguments) throws Exception {
        Map<String, String> told = new HashMap<>();
        for (String each : arguments) {
            String[] parts = each.split("=", 2);
            told.put(parts[0], parts[1]);
        }
        DtlsConfig.register();
        SystemConfig.register();
        boolean isClient = told.get("role").equals("client");
        int cid = Integer.parseInt(told.getOrDefault("cid", "-1"));
        DtlsConnectorConfig.Builder builder = DtlsConnectorConfig.builder(new Configuration());
        builder.set(DtlsConfig.DTLS_ROLE, isClient ? DtlsRole.CLIENT_ONLY : DtlsRole.SERVER_ONLY);
        builder.set(DtlsConfig.DTLS_RECOMMENDED_CIPHER_SUITES_ONLY, false);
        builder.set(DtlsConfig.DTLS_RECEIVER_THREAD_COUNT, 1);
        builder.set(DtlsConfig.DTLS_CONNECTOR_THREAD_COUNT, 1);
        builder.set(DtlsConfig.DTLS_MAX_CONNECTIONS, 100);
        builder.set(DtlsConfig.DTLS_RETRANSMISSION_TIMEOUT, 1, TimeUnit.SECONDS);
        builder.set(DtlsConfig.DTLS_VERIFY_SERVER_CERTIFICATES_SUBJECT, false);
        builder.set(DtlsConfig.DTLS_CLIENT_AUTHENTICATION_MODE, CertificateAuthenticationMode.NEEDED);
        if (isClient) {
            // What it offers must be its alone to decide: no session is resumed on its own.
            builder.set(DtlsConfig.DTLS_AUTO_HANDSHAKE_TIMEOUT, null, TimeUnit.SECONDS);
        }
        builder.set(DtlsConfig.DTLS_CONNECTION_ID_LENGTH, cid < 0 ? null : (Integer) cid);
        if (told.containsKey("limit")) {
            builder.set(DtlsConfig.DTLS_RECORD_SIZE_LIMIT, Integer.parseInt(told.get("limit")));
        }
        if (told.containsKey("suite")) {
            builder.setAsList(DtlsConfig.DTLS_CIPHER_SUITES, CipherSuite.getTypeByName(told.get("suite")));
        }
        InetAddress host = InetAddress.getByName("127.0.0.1");
        builder.setAddress(new InetSocketAddress(host, 0));
        String mode = told.get("mode");
        if (mode.equals("psk")) {
            builder.setPskStore(new SinglePskStore(told.get("identity"), HexFormat.of().parseHex(told.get("key"))));
        } else {
            Path folder = Path.of(told.get("folder"));
            KeyFactory keys = KeyFactory.getInstance("EC");
            String own = told.getOrDefault("own", isClient ? "client" : "server");
            String other = isClient ? "server" : "client";
            PrivateKey key = keys.generatePrivate(new PKCS8EncodedKeySpec(pem(folder.resolve(own + "-key.pem"))));
            if (mode.equals("rpk")) {
                PublicKey ownPublic =
                        keys.generatePublic(new X509EncodedKeySpec(pem(folder.resolve(own + "-public.pem"))));
                PublicKey otherPublic =
                        keys.generatePublic(new X509EncodedKeySpec(pem(folder.resolve(other + "-public.pem"))));
                builder.setCertificateIdentityProvider(new SingleCertificateProvider(key, ownPublic));
                builder.setCertificateVerifier(StaticCertificateVerifier.builder()
                        .setTrustedRPKs(new RawPublicKeyIdentity(otherPublic))
                        .build());
            } else {
                Certificate[] chain = certificates(folder.resolve(own + ".pem"));
                builder.setCertificateIdentityProvider(
                        new SingleCertificateProvider(key, chain, CertificateType.X_509));
                builder.setCertificateVerifier(StaticCertificateVerifier.builder()
                        .setTrustedCertificates(certificates(folder.resolve("ca.pem")))
                        .build());
            }
        }
        DTLSConnector connector = new DTLSConnector(builder.build());
        connector.setAlertHandler((peer, alert) -> say("alert " + alert.getLevel() + " " + alert.getDescription()));
        connector.setRawDataReceiver(data -> {
            say("got " + new String(data.getBytes(), StandardCharsets.UTF_8));
            if (!isClient) {
                connector.send(RawData.outbound(data.getBytes(), data.getEndpointContext(), new Told(), false));
            }
        });
        connector.start();
        say("port " + connector.getAddress().getPort());
        InetSocketAddress server = isClient ? new InetSocketAddress(host, Integer.parseInt(told.get("port"))) : null;
        BufferedReader orders = new BufferedReader(new InputStreamReader(System.in));
        for (String line = orders.readLine(); line != null; line = orders.readLine()) {
            String[] words = line.trim().split(" ", 2);
            switch (words[0]) {
                case "send", "resume" -> {
                    if (words[0].equals("resume")) {
                        connector.forceResumeSessionFor(server);
                    }
                    byte[] text = words[1].getBytes(StandardCharsets.UTF_8);
                    connector.send(RawData.outbound(text, new AddressEndpointContext(server), new Told(), false));
                }
                case "stop" -> {
                    connector.stop();
                    System.exit(0);
                }
                default -> say("unknown order " + line);
            }
        }
        System.exit(0);
    }
}
